"""Deformable convolution that projects first, compared with torchvision's operator.

Claim: `mnsa.model.ops.deform_conv.DeformConv2d` computes what `torchvision.ops.deform_conv2d` computes, values and
gradients, and trains in less time at the widths of the adaptive feature enhancer (O = C / 8).
Command: `python benchmarks/deform_conv_speed.py --repeats 5 --out deform_conv.md`
Expect: every difference in float64 at most 1e-10 (else exit code 1), and per level and kernel size a median ratio
(torchvision's time / ours) with its minimum and maximum: above 1 means that mnsa is faster.
The levels are DenseNet-161's for a 224 px input, batch 2; times are float32 on 2 threads.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from mnsa.model.ops.deform_conv import DeformConv2d
from timing import MIN_REPEATS, Range, machine_facts, pick_device, speed_up, take_turns

LEVELS = {1: (96, 112), 2: (384, 56), 3: (768, 28), 4: (2112, 14), 5: (2208, 7)}  # level -> channels, side in px
KERNEL_SIZES = (3, 5)
BATCH = 2
TOLERANCE = 1e-10
EQUALITY_SIDE_PX = 14  # equality needs no large maps: each has borders, and channels are what differs
Operator = Callable[[Tensor, Tensor], Tensor]  # x (B, C, H, W), offsets (B, 2 k^2, H, W) -> (B, O, H, W)


class Case(NamedTuple):
    """Both operators on the same weights, and what they are fed."""

    ours: Operator
    torchvisions: Operator
    x: Tensor  # (B, C, H, W)
    offsets: Tensor  # (B, 2 k^2, H, W), pixels
    parameters: tuple[Tensor, Tensor]  # weight, bias
    upstream: Tensor  # gradient of the output (B, O, H, W)


class Row(NamedTuple):
    """One line of the table."""

    level: int
    kernel_size: int
    difference: float
    forward: Range
    forward_backward: Range


def main() -> None:
    """Compare, time, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    pairs = [(level, kernel_size) for level in options.levels for kernel_size in KERNEL_SIZES]
    rows = [measure(level, kernel_size, options.repeats, device) for level, kernel_size in pairs]
    report = markdown(rows, options.repeats)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")
    if any(row.difference > TOLERANCE for row in rows):
        sys.exit(f"The operators differ by more than {TOLERANCE}.")


def measure(level: int, kernel_size: int, repeats: int, device: torch.device) -> Row:
    """Measure equality and both time ratios for one level and kernel size."""
    print(f"level {level}, {kernel_size}x{kernel_size} ...", file=sys.stderr)
    channels, side_px = LEVELS[level]
    small = min(side_px, EQUALITY_SIDE_PX)
    difference = largest_difference(make_case(channels, (small, small + 3), kernel_size, torch.float64, device))
    case = make_case(channels, (side_px, side_px), kernel_size, torch.float32, device)
    with torch.no_grad():
        forward = _ratio(lambda run: run(case.x, case.offsets), case, repeats)
    return Row(level, kernel_size, difference, forward, _ratio(lambda run: gradients(run, case), case, repeats))


def make_case(channels: int, size: tuple[int, int], kernel_size: int, dtype: torch.dtype, device: torch.device) -> Case:
    """Draw weights, features and offsets (a pixel's spread, so that taps cross pixels and borders)."""
    torch.manual_seed(0)
    conv = DeformConv2d(channels, channels // 8, kernel_size).to(device, dtype)
    assert conv.bias is not None
    x = torch.randn(BATCH, channels, *size, dtype=dtype, device=device, requires_grad=True)
    offsets = torch.randn(BATCH, 2 * kernel_size**2, *size, dtype=dtype, device=device, requires_grad=True)

    def torchvisions(x: Tensor, offsets: Tensor) -> Tensor:
        sampled: Tensor = deform_conv2d(x, offsets, conv.weight, conv.bias, padding=kernel_size // 2)
        return sampled

    upstream = torch.randn(BATCH, channels // 8, *size, dtype=dtype, device=device)
    return Case(conv, torchvisions, x, offsets, (conv.weight, conv.bias), upstream)


def gradients(run: Operator, case: Case) -> tuple[Tensor, ...]:
    """Compute the output, then what `case.upstream` becomes at x, offsets, weight and bias."""
    out = run(case.x, case.offsets)
    return out, *torch.autograd.grad(out, (case.x, case.offsets, *case.parameters), case.upstream)


def largest_difference(case: Case) -> float:
    """Find the largest absolute difference in the output or any gradient."""
    pairs = zip(gradients(case.ours, case), gradients(case.torchvisions, case), strict=True)
    return max((a - b).detach().abs().max().item() for a, b in pairs)


def markdown(rows: list[Row], repeats: int) -> str:
    """Lay out the report: machine, then one line per row."""
    lines = [
        f"{machine_facts()}; {repeats} repeats; median (minimum-maximum) of torchvision's time / ours.\n",
        "| level | channels | side, px | kernel | largest difference, float64 | forward | forward + backward |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        channels, side_px = LEVELS[row.level]
        lines.append(
            f"| {row.level} | {channels} -> {channels // 8} | {side_px} | {row.kernel_size}x{row.kernel_size} "
            f"| {row.difference:.1e} | {row.forward} | {row.forward_backward} |"
        )
    return "\n".join(lines)


def _ratio(task: Callable[[Operator], object], case: Case, repeats: int) -> Range:
    candidates = {"ours": lambda: task(case.ours), "torchvision": lambda: task(case.torchvisions)}
    return speed_up(take_turns(candidates, repeats), slow="torchvision", fast="ours")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--repeats", type=int, default=2 * MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
