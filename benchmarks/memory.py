"""Memory of a training step: mnsa compared with the upstream code.

Claim: a step of the second stage needs at most a third of the memory that the upstream code needs for it.
Command: `python benchmarks/memory.py --backbone densenet161 --threads 2 --out memory.md`
Expect: per side how far the peak rises over the size before the steps (weights and libraries loaded), in MB, and the
ratio. Each measurement is two steps in a new process, so that gradients and momentum exist in the second one; their
memory is the same for both sides, and is in the table too. On a CPU the heap of the C library has gaps of varying size,
so a column shows the maximum memory of tensors, counted by torch's allocator.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from mnsa.model.network import build_network
from network_speed import CLASSES, MASK_CLASSES, STAGE, paper_config, random_upstream
from peak_memory import MB, Peak, in_child, middle, most_held, peak_of, rises
from stage_steps import StageSteps, random_batch
from timing import machine_facts, pick_device
from upstream_network import second_stage

SIDES = ("upstream", "mnsa")
STEPS = 2
STATES = 2  # gradient and momentum, for each trainable weight


def main() -> None:
    """Measure in child processes, or run as one of them."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.side:
        print(json.dumps(measure(options)))
        return
    peaks: dict[str, list[Peak]] = {side: [] for side in SIDES}
    for turn in range(options.repeats):
        for side in SIDES:
            print(f"turn {turn + 1}, {side} ...", file=sys.stderr)
            peaks[side].append(in_child([__file__, *sys.argv[1:], "--side", side]))
    held = {side: in_child([__file__, *sys.argv[1:], "--side", side, "--held"]).rise for side in SIDES}
    report = markdown(peaks, held, trainable_mb(options.backbone), options)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


def measure(options: argparse.Namespace) -> Peak:
    """Take two training steps on one side."""
    device, size = pick_device(options.device), (options.size, options.size)
    batch = random_batch(options.batch, size, classes=CLASSES, mask_classes=MASK_CLASSES, device=device)
    if options.side == "upstream":
        trainee = second_stage(random_upstream(options.backbone).to(device))
        return measured(lambda: trainee.step(batch.images, batch.masks), device, held=options.held)
    config = paper_config(options.backbone, options.precision)
    steps = StageSteps(build_network(config.model, CLASSES, MASK_CLASSES), config, STAGE, MASK_CLASSES, device)
    return measured(lambda: steps.step(batch), device, held=options.held)


def measured(step: Callable[[], None], device: torch.device, *, held: bool) -> Peak:
    """Take the steps and measure how far memory rises, or the maximum memory of tensors; on a GPU both are equal."""
    if held and device.type == "cpu":
        return Peak(0, most_held(lambda: [step() for _ in range(STEPS)]))
    return peak_of(lambda: [step() for _ in range(STEPS)], device)


def trainable_mb(backbone: str) -> float:
    """Compute the memory of gradients and momentum of the second stage, in MB."""
    with torch.device("meta"):
        trainee = second_stage(random_upstream(backbone))
    weights = sum(p.numel() * p.element_size() for p in trainee.network.parameters() if p.requires_grad)
    return STATES * weights / MB


def markdown(peaks: dict[str, list[Peak]], held: dict[str, float], learning: float, options: argparse.Namespace) -> str:
    """Format the report: machine, one line per side, then the ratios."""
    lines = [
        f"{machine_facts()}; {options.backbone}, {options.size} px, batch {options.batch}, {options.precision} for "
        f"mnsa, {options.repeats} processes a side; MB, median (minimum-maximum).\n",
        "| side | before the steps | rise in the steps | tensors held at most | gradients and momentum |",
        "|---|---|---|---|---|",
    ]
    medians = {side: middle(found) for side, found in peaks.items()}
    for side, median in medians.items():
        lines.append(f"| {side} | {median.before:,.0f} | {rises(peaks[side])} | {held[side]:,.0f} | {learning:,.0f} |")
    ours, theirs = medians["mnsa"], medians["upstream"]
    ratios = ours.before / theirs.before, ours.rise / theirs.rise, held["mnsa"] / held["upstream"]
    lines.append("| mnsa / upstream | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " | 1.00 |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=("densenet161", "resnet18"), default="densenet161")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="mnsa's")
    parser.add_argument("--size", type=int, default=224, help="side of the images in px, a multiple of 32")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="processes per side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--side", choices=SIDES, help="measure one side in this process (memory.py starts these itself)"
    )
    parser.add_argument(
        "--held",
        action="store_true",
        help="measure the maximum memory of tensors of that side (used by memory.py itself)",
    )
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
