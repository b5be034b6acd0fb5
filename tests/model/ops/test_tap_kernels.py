"""The kernels compile for NVIDIA GPUs: Triton needs none for that. What they compute: test_tap_sampling.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: PyTorch for CPUs comes without it")

COMPILE_ALL = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mnsa.model.ops import tap_kernels

KINDS = {"readers": "*i64", "starts": "*i64", "cells": "*i32"}
MAPS = ("projected", "offsets", "out", "gradient", "grad_offsets")

for maps, sums in (("*fp32", "*fp32"), ("*bf16", "*fp32"), ("*fp64", "*fp64")):
    values = {"K": 3, "O": 12, "PIXELS": 64, "CHANNELS": 16, "DOUBLE": maps == "*fp64", "ATOMICS": True}
    kinds = {**KINDS, **dict.fromkeys(MAPS, maps), "grad_projected": sums}
    for name in ("sample_kernel", "gradients_kernel", "cells_kernel", "gather_kernel"):
        kernel = getattr(tap_kernels, name)
        constants = {(n,): values[key] for n, key in enumerate(kernel.arg_names) if key in values}
        signature = {key: "constexpr" if key in values else kinds.get(key, "i32") for key in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
        print(name, maps, ".relaxed.add" in compiled.asm["ptx"])
"""


@pytest.mark.slow
def test_the_kernels_compile_and_only_one_has_atomics(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE_ALL]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 12
    assert {line.split()[0] for line in lines if line.endswith("True")} == {"gradients_kernel"}
