"""The enhancer compared with itself with plain convolutions: the cost of deformable convolutions.

Claim: the adaptive feature enhancer takes at most 1.5 times as long as the same enhancer whose deformable 3x3 and 5x5
convolutions are plain ones, at the five levels of a backbone, forward and forward + backward (gradients of its
weights only, as in the second stage).
Command: `python benchmarks/enhancer_speed.py --backbone densenet161 --out enhancer_speed.md`
Expect: per task the median ratio (mnsa's time / plain), its minimum and maximum; below 1.5 is the claim.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mnsa.model.backbone import Backbone
from mnsa.model.enhancer import BranchWidths, Enhancer
from mnsa.structures import FeaturePyramid
from timing import MIN_REPEATS, machine_facts, pick_device, speed_up, take_turns
from upstream_network import OFFSET_CHANNELS, SKIP_RATIO, WIDTHS, atrous, mean_and_max

OFFSET_SPREAD = 0.1  # standard deviation of the last offset weights: taps wander by about a pixel


class PlainLevel(nn.Module):
    """The five branches on one level with plain 3x3 and 5x5 convolutions, and the skip."""

    def __init__(self, channels: int, branches: Sequence[int], skip_channels: int) -> None:
        super().__init__()
        plain3, plain5, atrous2, atrous3, context = branches
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(channels, plain3, kernel_size=3, padding=1),
                nn.Conv2d(channels, plain5, kernel_size=5, padding=2),
                atrous(channels, atrous2, 2),
                atrous(channels, atrous3, 3),
            ]
        )
        self.context = nn.Conv2d(2, context, kernel_size=1)
        self.skip = nn.Conv2d(sum(branches), skip_channels, kernel_size=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """F_l (B, C_l, h, w) -> D_l and S_l."""
        convolved = [convolution(features) for convolution in self.convolutions]
        details = torch.cat([*convolved, self.context(mean_and_max(features))], dim=1)
        return details, self.skip(details)


class PlainEnhancer(nn.Module):
    """A `PlainLevel` per level."""

    def __init__(self, channels: Sequence[int], widths: BranchWidths, skip_channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            PlainLevel(c, widths.channels(level, c), skip)
            for level, (c, skip) in enumerate(zip(channels, skip_channels, strict=True), start=1)
        )

    def forward(self, pyramid: FeaturePyramid) -> tuple[tuple[Tensor, Tensor], ...]:
        """F_1..F_5 -> D_l and S_l of each level."""
        return tuple(level(features) for level, features in zip(self.levels, pyramid, strict=True))


def main() -> None:
    """Build, time, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    report = markdown(options)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


def markdown(options: argparse.Namespace) -> str:
    """Measure both tasks and lay out the report."""
    lines = [
        f"{machine_facts()}; {options.backbone}, {options.size} px, batch {options.batch}, {options.repeats} repeats; "
        "median (minimum-maximum) of the enhancer's time / the same with plain convolutions.\n",
        "| task | deformable / plain |",
        "|---|---|",
    ]
    for task, run in {"forward": forward, "forward + backward": backward}.items():
        times = take_turns(candidates(options, run), options.repeats)
        ratio = speed_up(times, slow="deformable", fast="plain")
        lines.append(f"| {task} | {ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f}) |")
    return "\n".join(lines)


def candidates(
    options: argparse.Namespace, run: Callable[[nn.Module, FeaturePyramid], None]
) -> dict[str, Callable[[], None]]:
    """Both enhancers on the same features, in the layout that training uses."""
    torch.manual_seed(0)
    device, layout = pick_device(options.device), torch.channels_last
    with torch.device("meta"):
        channels = Backbone(options.backbone).channels
    widths = BranchWidths.from_ratios(WIDTHS)
    deformable = Enhancer(channels, widths, SKIP_RATIO, OFFSET_CHANNELS)
    wander(deformable)
    plain = PlainEnhancer(channels, widths, deformable.skip_channels)
    sides = (options.size >> level for level in range(1, 6))
    maps = [torch.randn(options.batch, c, side, side, device=device) for c, side in zip(channels, sides, strict=True)]
    pyramid = FeaturePyramid(*(features.contiguous(memory_format=layout) for features in maps))
    for network in (deformable, plain):
        network.to(device, memory_format=layout)
    return {"deformable": lambda: run(deformable, pyramid), "plain": lambda: run(plain, pyramid)}


def wander(enhancer: Enhancer) -> None:
    """Give the offsets, all zero at first, random values, so that taps leave their pixels."""
    for name, parameter in enhancer.named_parameters():
        if ".offsets." in name:
            nn.init.normal_(parameter, std=OFFSET_SPREAD)


@torch.inference_mode()
def forward(enhancer: nn.Module, pyramid: FeaturePyramid) -> None:
    """Compute details and skips."""
    enhancer(pyramid)


def backward(enhancer: nn.Module, pyramid: FeaturePyramid) -> None:
    """Compute details and skips, then the gradients of all weights."""
    enhancer.zero_grad()
    torch.stack([map_.mean() for pair in enhancer(pyramid) for map_ in pair]).sum().backward()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=("densenet161", "resnet18"), default="densenet161")
    parser.add_argument("--size", type=int, default=224, help="side of the images in px, a multiple of 32")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
