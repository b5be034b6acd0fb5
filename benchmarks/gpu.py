"""All benchmarks of a GPU in one go, at most 8 minutes: correctness first, then speed and memory.

Claim: none; it runs the scripts that have them.
Command: `sh benchmarks/gpu.sh FOLDER`. To try it out without a GPU: `sh benchmarks/gpu.sh FOLDER --device cpu --quick`
Expect: FOLDER/gpu.md, a section per part, written after each part; a log per part beside it. Each part is a process
with a time limit. One that fails or is stopped leaves the rows that it has finished, and the others still run. Exit
code 1 if one failed.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Part(NamedTuple):
    """A script with its arguments, and its limit in seconds. quick: arguments added to try it out."""

    name: str
    limit_s: float
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()


def paper(name: str, limit_s: float, *arguments: str) -> Part:
    """Make a part that compares the paper's network with the upstream code."""
    command = ("network_speed.py", "--size", "448", "--batch", "8", "--repeats", "5", "--warm-up", "2", *arguments)
    quick = ("--backbone", "resnet18", "--size", "32", "--batch", "2", "--repeats", "1", "--warm-up", "0")
    return Part(name, limit_s, command, quick)


def predict(name: str, limit_s: float, config: str) -> Part:
    """Make a part that predicts files."""
    quick = ("--config", "demo.toml", "--size", "64", "--count", "4", "--side-px", "64", "--batch", "2")
    return Part(name, limit_s, ("predict_rate.py", "--config", config), quick)


def deform_conv(name: str, limit_s: float, *precisions: str) -> Part:
    """Make a part that compares the operator in some number formats."""
    quick = ("--levels", "1", "--kernels", "3", "--input-px", "8", "--batch", "1", "--matrix-side", "256")
    one_turn = ("--repeats", "1", "--warm-up", "0", "--precisions", precisions[-1])
    return Part(name, limit_s, ("deform_conv_gpu.py", "--precisions", *precisions), (*quick, *one_turn))


def small(name: str, limit_s: float, precision: str) -> Part:
    """Make a part that compares the small preset with the peer."""
    quick = ("--sizes", "32x64", "--batch", "2", "--repeats", "1", "--processes", "1")
    return Part(name, limit_s, ("peer_speed.py", "--sizes", "448x448", "--precision", precision), quick)


# The most important first: a machine may be taken away.
PARTS = (
    Part("correctness", 90, ("gpu_checks.py",), ("--quick",)),
    deform_conv("deformable convolution", 130, "float32", "bfloat16"),
    paper("paper", 90),
    small("small", 50, "float32"),
    predict("mnsa predict, small", 40, "small.toml"),
    small("small, bfloat16", 40, "bfloat16"),
    paper("paper, TF32 and compiled", 90, "--tf32", "--compile", "--warm-up", "3"),
    paper("paper, without recomputation", 60, "--tasks", "step", "--no-recompute"),
    predict("mnsa predict, paper", 60, "paper.toml"),
    deform_conv("deformable convolution, TF32 and float16", 60, "tf32", "float16"),
)


def main() -> None:
    """Run the parts one after the other."""
    options = _options()
    chosen = [part for part in PARTS if not options.parts or part.name in options.parts]
    sys.exit(
        int(not run_all(chosen, options.folder, options.device, quick=options.quick, seconds=60 * options.minutes))
    )


def run_all(parts: Sequence[Part], folder: Path, device: str, *, quick: bool, seconds: float) -> bool:
    """Run the parts in `seconds` at most, and write gpu.md after each. Returns: whether all have succeeded."""
    folder.mkdir(parents=True, exist_ok=True)
    start, sections, succeeded = time.monotonic(), [f"# Measured on {device}{', tiny sizes' if quick else ''}"], True
    for part in parts:
        left = seconds - (time.monotonic() - start)
        print(f"{part.name} ...", flush=True)
        table, problem = "", "not started: the time was over"
        if left > 0:
            table, problem = run(part, folder, device, quick=quick, limit_s=left if quick else min(left, part.limit_s))
        succeeded &= not problem
        print(f"  {problem or 'done'}, {time.monotonic() - start:.0f} s in all", flush=True)
        section = f"## {part.name}", f"**{problem}**" if problem else "", table.strip()
        sections.append("\n\n".join(filter(None, section)))
        (folder / "gpu.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return succeeded


def run(part: Part, folder: Path, device: str, *, quick: bool, limit_s: float) -> tuple[str, str]:
    """Run one part in a process of its own. Returns: what it has written, and what went wrong; empty: nothing."""
    stem = part.name.replace(", ", "-").replace(" ", "-")
    out, log = (folder / f"{stem}{suffix}" for suffix in (".md", ".log"))
    out.unlink(missing_ok=True)
    script, *arguments = part.command
    command = [sys.executable, str(HERE / script), *arguments, *(part.quick if quick else ())]
    # cuBLAS is deterministic with a workspace of fixed size only. Without a GPU, kernels are interpreted.
    environment = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TRITON_INTERPRET": str(int(device == "cpu")), **os.environ}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*command, "--device", device, "--out", str(out)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        problem = wait(process, limit_s)
    if problem.startswith("failed"):
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        problem += "".join(f": {line.strip()}" for line in [line for line in lines if line.strip()][-1:])
    return (out.read_text(encoding="utf-8") if out.exists() else ""), problem


def wait(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """Wait for the process, and stop it and its children at the limit. Returns: what went wrong; empty: nothing."""
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"stopped after {limit_s:.0f} s"
    finally:  # also after Ctrl-C
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"failed with exit code {code}" if code else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for gpu.md and the logs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and no limit per part, to try the scripts out")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="these parts only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
