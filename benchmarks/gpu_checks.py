"""Whether mnsa computes on this device what it should: before anything is timed.

Claim: on a GPU, deformable convolution by Triton kernels equals torchvision's operator in float64 (1e-10), differs from
float64 by at most 1e-5 of the largest value in float32, and gives equal bits in 20 deterministic runs; the network
gives the CPU's outputs, and a compiled one the eager one's.
Command: `python benchmarks/gpu_checks.py --device cuda --out checks.md`
Expect: a row per check with its largest difference and its limit; exit code 1 if one fails.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvisions

from deform_conv_gpu import deterministic
from mnsa.model.network import build_network
from mnsa.model.ops.deform_conv import DeformConv2d, runs_triton
from mnsa.model.ops.tap_sampling import deform_conv2d_triton
from roofline import DTYPES, tf32
from stage_steps import config_named
from timing import machine_facts, pick_device

Inputs = tuple[Tensor, Tensor, Tensor]  # features, offsets, weight
DETERMINISTIC_RUNS = 20


class Check(NamedTuple):
    """What is computed, and how far it may be from what is right; relative to the largest value, at least 1."""

    name: str
    difference: Callable[[], float]
    limit: float


def main() -> None:
    """Run all checks, also after one that fails, and write the report after each."""
    options = _options()
    device = pick_device(options.device)
    lines = [f"{machine_facts()}; largest differences.\n", "| check | difference | limit | |", "|---|---|---|---|"]
    failed = False
    for check in checks(device, quick=options.quick):
        print(f"{check.name} ...", file=sys.stderr)
        try:
            with tf32(enabled=False):
                found = check.difference()
            verdict, shown = "ok" if found <= check.limit else "TOO LARGE", f"{found:.1e}"
        except Exception as error:
            verdict, shown = "FAILED", f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        failed |= verdict != "ok"
        lines.append(f"| {check.name} | {shown} | {check.limit:.0e} | {verdict} |")
        if options.out:
            options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    sys.exit(int(failed))


def checks(device: torch.device, *, quick: bool) -> list[Check]:
    """List the checks; `quick` shrinks them, for Triton's interpreter."""
    size = (2, 3) if quick else (13, 29)
    found = [Check("Triton is chosen on this device", lambda: float(not runs_triton(device)), 1 if quick else 0)]
    for k in (1,) if quick else (3, 5):
        for mode in (False, True):
            for spread_px in (2.0,) if quick else (2.0, 40.0):
                name = f"{k}x{k}, offsets of {spread_px:.0f} px{', deterministic' if mode else ''}"
                inputs = draw(k, size, spread_px, device)
                for dtype, limit in (("float64", 1e-10), ("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 4e-2)):
                    found.append(
                        Check(f"{name}, {dtype}", against_float64(inputs, dtype, deterministic_mode=mode), limit)
                    )
    runs = 2 if quick else DETERMINISTIC_RUNS
    found.append(Check(f"{runs} deterministic runs", lambda: differing_runs(device, size, runs), 0))
    found.append(Check("torch.compile, whole graph", lambda: compiled_difference(device, size, quick=quick), 1e-5))
    found.append(Check("network, float32, against the CPU", lambda: network_difference(device, quick=quick), 1e-3))
    return found


def draw(k: int, size: tuple[int, int], spread_px: float, device: torch.device) -> Inputs:
    """Draw float64 inputs: 24 -> 20 channels, which are no power of two."""
    generator = torch.Generator().manual_seed(k)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    return normal(2, 24, *size), spread_px * normal(2, 2 * k * k, *size), normal(20, 24, k, k)


def results(run: Callable[..., Tensor], inputs: Inputs) -> list[Tensor]:
    """Compute output and gradients."""
    given = [t.detach().requires_grad_() for t in inputs]
    out = run(*given)
    pull = torch.linspace(-1, 1, out.numel(), device=out.device, dtype=torch.float64).view(out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, given, pull)]


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Find the largest difference, relative to the largest value of its tensor (at least 1)."""
    pairs = [(a.double(), b.double()) for a, b in zip(ours, theirs, strict=True)]
    # torch's maximum keeps a NaN, Python's may lose it
    return torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in pairs]).max().item()


def against_float64(inputs: Inputs, dtype: str, *, deterministic_mode: bool) -> Callable[[], float]:
    """Compare with torchvision in float64 on the same rounded inputs."""

    def difference() -> float:
        number_format = torch.float64 if dtype == "float64" else DTYPES[dtype]
        rounded = tuple(t.to(number_format) for t in inputs)
        with deterministic(enabled=deterministic_mode):
            ours = results(deform_conv2d_triton, rounded)  # type: ignore[arg-type]
        exact = tuple(t.double() for t in rounded)
        padding = inputs[2].shape[-1] // 2
        return largest_difference(ours, results(lambda *given: torchvisions(*given, padding=padding), exact))  # type: ignore[arg-type]

    return difference


def differing_runs(device: torch.device, size: tuple[int, int], count: int) -> float:
    """Count the tensors of deterministic runs, in float32, whose bits are not those of the first run."""
    inputs = tuple(t.float() for t in draw(3, size, 2.0, device))
    with deterministic(enabled=True):
        runs = [results(deform_conv2d_triton, inputs) for _ in range(count)]  # type: ignore[arg-type]
    return float(sum(not torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True)))


def compiled_difference(device: torch.device, size: tuple[int, int], *, quick: bool) -> float:
    """Compare a compiled module with the eager one."""
    features, offsets, _ = (t.float() for t in draw(3, size, 2.0, device))
    conv = DeformConv2d(24, 20, kernel_size=3).to(device)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager" if quick else "inductor")
    given = features.requires_grad_(), offsets.requires_grad_(), *conv.parameters()
    both = [run(features, offsets) for run in (compiled, conv)]
    ours, theirs = ([out, *torch.autograd.grad(out.square().sum(), given)] for out in both)
    return largest_difference(ours, theirs)


def network_difference(device: torch.device, *, quick: bool) -> float:
    """Compare the logits of the paper's network with those on the CPU."""
    torch.manual_seed(0)
    backbone = "test_efficientnet" if quick else "resnet18"
    network = build_network(config_named("paper.toml", f"model.backbone={backbone}").model, 7, 1).eval()
    for name, parameter in network.named_parameters():
        if ".offsets.2." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        expected = network(images)
        found = network.to(device)(images.to(device))
    pairs = [(a.cpu(), b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None]
    return largest_difference([a for a, _ in pairs], [b for _, b in pairs])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script out on a CPU")
    parser.add_argument("--out", type=Path, help="also write the report to this file, row by row")
    return parser.parse_args()


if __name__ == "__main__":
    main()
