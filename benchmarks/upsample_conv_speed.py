"""The decoder's map from coarse: projected before it is upsampled, against upsampled before it is convolved.

Claim: at the levels of DenseNet-161 where mnsa projects first, a decoder level's first convolution, of F_l, D_l and the
coarse map, takes less time than with the map resized first; forward and forward + backward (of the weights and the
coarse map, as in the second stage: F_l is frozen).
Command: `python benchmarks/upsample_conv_speed.py --repeats 5 --out upsampled_conv.md`
Expect: a row per level with an upsampling: the median ratio (resized first / mnsa's), its minimum and maximum. Level 1
has few channels: there mnsa resizes first, too, and the ratio is 1 by construction.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mnsa.model.enhancer import BranchWidths
from mnsa.model.ops.concat_conv import ConcatConv2d, resize, should_project_first
from mnsa.model.weights import set_memory_format
from timing import MIN_REPEATS, Range, machine_facts, speed_up, take_turns
from upstream_network import WIDTHS

CHANNELS = (96, 384, 768, 2112, 2208)  # C_1..C_5 of DenseNet-161
SIDE_PX, BATCH = 224, 2
LEVELS = (4, 3, 2, 1)


class Case:
    """A decoder level's first convolution and what it is given."""

    def __init__(self, level: int) -> None:
        torch.manual_seed(0)
        channels, side = CHANNELS[level - 1], SIDE_PX >> level
        details = sum(BranchWidths.from_ratios(WIDTHS).channels(level, channels))
        out_channels = CHANNELS[max(level - 2, 0)]
        self.conv = ConcatConv2d(channels + details + channels, out_channels)  # O_l+1 = C_l
        set_memory_format(self.conv, torch.channels_last)
        self.features, self.details, coarse = (
            torch.randn(BATCH, c, s, s).to(memory_format=torch.channels_last)
            for c, s in ((channels, side), (details, side), (channels, side // 2))
        )
        self.coarse = coarse.requires_grad_()
        self.upstream = torch.randn(BATCH, out_channels, side, side).to(memory_format=torch.channels_last)

    def projected_first(self) -> Tensor:
        """As mnsa does it."""
        output: Tensor = self.conv(self.features, self.details, coarse=self.coarse)
        return output

    def resized_first(self) -> Tensor:
        """Resize first, as in the method."""
        output: Tensor = self.conv(self.features, self.details, resize(self.coarse, self.features.shape[-2:]))
        return output


def main() -> None:
    """Time, print."""
    options = _options()
    torch.set_num_threads(options.threads)
    lines = [
        f"{machine_facts()}; {SIDE_PX} px, batch {BATCH}, {options.repeats} repeats; median (minimum-maximum) of the "
        "time with the coarse map resized first / mnsa's.\n",
        "| level | coarse channels | side, px | projected first | forward | forward + backward |",
        "|---|---|---|---|---|---|",
    ]
    for level in LEVELS:
        case = Case(level)
        pays = should_project_first(case.coarse, case.features.shape[-2:])
        with torch.no_grad():
            forward = _ratio(case, lambda run: run(), options.repeats)
        both = _ratio(case, lambda run, case=case: backward(run, case), options.repeats)
        channels, side = case.coarse.shape[1], case.features.shape[-1]
        lines.append(f"| {level} | {channels} | {side} | {'yes' if pays else 'no'} | {forward} | {both} |")
    report = "\n".join(lines)
    print(report)
    if options.out:
        options.out.write_text(report + "\n", encoding="utf-8")


def backward(run: Callable[[], Tensor], case: Case) -> None:
    """Forward and backward."""
    torch.autograd.grad(run(), (case.coarse, *case.conv.parameters()), case.upstream)


def _ratio(case: Case, task: Callable[[Callable[[], Tensor]], object], repeats: int) -> Range:
    candidates = {"ours": lambda: task(case.projected_first), "resized": lambda: task(case.resized_first)}
    return speed_up(take_turns(candidates, repeats), slow="resized", fast="ours")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2 * MIN_REPEATS, help=f"{MIN_REPEATS} or more to quote a result")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
