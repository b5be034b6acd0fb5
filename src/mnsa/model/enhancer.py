"""Adaptive feature enhancer: five parallel branches at every level. The architecture search chooses their widths.

The enhancer is slimmable: every narrower enhancer is a slice of the widest one's weights, each branch's first channels.
`mnsa.search.slices` does the same for the whole network, so that a search can train all widths at once.

B batch; level l has C_l channels, stride 2^l and size H_l, W_l; D_l, S_l channels of its details and skip.
Source: method section 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import floor
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from mnsa.errors import ModelError
from mnsa.model.ops.concat_conv import ConcatConv2d
from mnsa.model.ops.deform_conv import DeformConv2d, OffsetPredictor
from mnsa.model.ops.recompute import recomputes
from mnsa.structures import FeaturePyramid

BRANCHES = ("deform3", "deform5", "atrous2", "atrous3", "context")
LEVELS = 5
LARGE_MAP = 2**20  # elements; images with smaller maps are faster as one batch

BranchChannels = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class BranchWidths:
    """The width of each branch at each level, as a ratio of the level's channels: ratios[level - 1][branch] in 0..1."""

    ratios: tuple[tuple[float, ...], ...]

    @classmethod
    def from_ratios(cls, ratios: Sequence[float] | Sequence[Sequence[float]]) -> Self:
        """Take five ratios for all levels, or five per level. Raises: ModelError for any other shape."""
        rows = [row if isinstance(row, Sequence) else None for row in ratios]
        if all(row is None for row in rows):
            rows = [ratios] * LEVELS  # type: ignore[list-item]
        if len(rows) != LEVELS or any(row is None or len(row) != len(BRANCHES) for row in rows):
            raise ModelError(f"widths are {ratios!r}; expected five ratios ({', '.join(BRANCHES)}) or five per level.")
        return cls(tuple(tuple(float(ratio) for ratio in row or ()) for row in rows))

    def channels(self, level: int, in_channels: int) -> BranchChannels:
        """Compute the branches' channels at `level` (1..5): floor(ratio * in_channels), at least 1; 0 for ratio 0."""
        # The small addend corrects rounding: 0.29 * 100 = 28.999... gives 29 channels.
        deform3, deform5, atrous2, atrous3, context = (
            max(1, floor(ratio * in_channels + 1e-9)) if ratio > 0 else 0 for ratio in self.ratios[level - 1]
        )
        return deform3, deform5, atrous2, atrous3, context


class EnhancedFeatures(NamedTuple):
    """Output of the enhancer at one level: details D_l (B, D_l, H_l, W_l), and the skip S_l (B, S_l, H_l, W_l)."""

    details: Tensor
    skip: Tensor


class DeformBranch(nn.Module):
    """A deformable convolution with its offset predictor."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, offset_channels: int) -> None:
        super().__init__()
        self.offsets = OffsetPredictor(in_channels, offset_channels, kernel_size)
        self.conv = DeformConv2d(in_channels, out_channels, kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) -> (B, O, H, W)."""
        sampled: Tensor = self.conv(features, self.offsets(features))
        return sampled

    def chunk_size(self, features: Tensor) -> int:
        """Return how many of the images (B, C, H, W) to compute at once: one on a CPU with large maps, else all."""
        tap_elements = self.conv.weight[:, 0].numel() * features.shape[2] * features.shape[3]  # of one image
        return 1 if features.device.type == "cpu" and tap_elements > LARGE_MAP else len(features)


def mean_and_max(features: Tensor) -> Tensor:
    """Compute mean and maximum over channels. (B, C, H, W) -> (B, 2, H, W)."""
    return torch.cat((features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)), dim=1)


class ContextBranch(nn.Module):
    """A 1x1 convolution of the channels' mean and maximum."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) -> (B, O, H, W)."""
        context: Tensor = self.conv(mean_and_max(features))
        return context


class AdaptiveFeatureEnhancer(nn.Module):
    """The five branches of one level, concatenated. A branch of 0 channels is left out.

    branch_channels: channels of each branch, in their order. Raises: ModelError when all branches have 0 channels.
    """

    def __init__(self, in_channels: int, branch_channels: BranchChannels, offset_channels: int) -> None:
        super().__init__()
        if not any(branch_channels):
            raise ModelError("every width of a level is 0. Give at least one branch a ratio above 0.")
        builders: dict[str, Callable[[int], nn.Module]] = {
            "deform3": lambda width: DeformBranch(in_channels, width, 3, offset_channels),
            "deform5": lambda width: DeformBranch(in_channels, width, 5, offset_channels),
            "atrous2": lambda width: ConcatConv2d(in_channels, width, dilation=2),
            "atrous3": lambda width: ConcatConv2d(in_channels, width, dilation=3),
            "context": ContextBranch,
        }
        # without branches of 0 channels, in the order of concatenation
        self.branch_channels = {name: width for name, width in zip(BRANCHES, branch_channels, strict=True) if width}
        self.branches = nn.ModuleDict({name: builders[name](width) for name, width in self.branch_channels.items()})

    def forward(self, features: Tensor) -> Tensor:
        """F_l (B, C_l, H_l, W_l) -> D_l (B, D, H_l, W_l)."""
        outputs = [
            _checkpointed(branch, features) if isinstance(branch, DeformBranch) else branch(features)
            for branch in self.branches.values()
        ]
        # Deformable branches give contiguous maps. Concatenated as they are, the result would be contiguous too, and
        # every layer that reads it would copy it. It is converted again at the end, because a map of one channel is in
        # both formats, and then `cat` chooses the contiguous one.
        memory_format = _memory_format(features)
        details = torch.cat([output.contiguous(memory_format=memory_format) for output in outputs], dim=1)
        return details.contiguous(memory_format=memory_format)


class Enhancer(nn.Module):
    """An adaptive feature enhancer and a skip bridge (a 1x1 convolution) for each level.

    A skip bridge has max(1, floor(skip_ratio * D_l)) channels, so one even for ratio 0, as in the paper's code.
    """

    def __init__(self, channels: Sequence[int], widths: BranchWidths, skip_ratio: float, offset_channels: int) -> None:
        super().__init__()
        branches = [widths.channels(level, c) for level, c in enumerate(channels, start=1)]
        self.in_channels, self.skip_ratio, self.offset_channels = tuple(channels), skip_ratio, offset_channels
        self.channels = tuple(sum(row) for row in branches)  # of D_1..D_5
        self.skip_channels = tuple(max(1, floor(skip_ratio * c)) for c in self.channels)  # of S_1..S_5
        self.levels = nn.ModuleList(
            AdaptiveFeatureEnhancer(c, row, offset_channels) for c, row in zip(channels, branches, strict=True)
        )
        self.skips = nn.ModuleList(
            nn.Conv2d(c, skip, kernel_size=1) for c, skip in zip(self.channels, self.skip_channels, strict=True)
        )

    def forward(self, pyramid: FeaturePyramid) -> tuple[EnhancedFeatures, ...]:
        """Compute D_l and S_l of levels 1..5."""
        details = [enhance(features) for enhance, features in zip(self.levels, pyramid, strict=True)]
        return tuple(EnhancedFeatures(d, bridge(d)) for d, bridge in zip(details, self.skips, strict=True))


def slice_weights(widest: Enhancer, narrow: Enhancer) -> dict[str, Tensor]:
    """Slice the widest enhancer's weights to the names and shapes of `narrow`. The values of `narrow` are not read.

    Raises: ModelError when a branch of `narrow` is wider, or missing in `widest`.
    """
    slices: dict[str, Tensor] = {}
    for i, (wide, slim) in enumerate(zip(enhancer_levels(widest), enhancer_levels(narrow), strict=True)):
        _validate_widths(wide, slim, level=i + 1)
        weights = dict(wide.named_parameters())
        # Output channels are the first dimension of every weight. Offset predictors are equal at every width.
        slices |= {f"levels.{i}.{name}": weights[name][: len(slot)] for name, slot in slim.named_parameters()}
        bridge = dict(widest.skips[i].named_parameters())
        outputs, inputs = narrow.skip_channels[i], detail_indices(wide, slim)
        slices[f"skips.{i}.weight"] = bridge["weight"][:outputs, inputs]
        slices[f"skips.{i}.bias"] = bridge["bias"][:outputs]
    return slices


def _checkpointed(branch: DeformBranch, features: Tensor) -> Tensor:
    """Compute `branch(features)` with little memory: few images at once, nothing inside saved for the backward pass.

    The sampling positions and the outputs of the taps are the largest maps of the network, and fast to recompute.
    """
    if torch.compiler.is_compiling():
        output: Tensor = branch(features)
        return output
    # The current weights: `SubNetwork` replaces them during the forward pass only.
    weights = branch.state_dict(keep_vars=True)
    run = partial(functional_call, branch, weights)
    if torch.is_grad_enabled() and recomputes():
        run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    outputs = [run(images) for images in torch.split(features, branch.chunk_size(features))]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # `cat` copies even a single map


def _memory_format(features: Tensor) -> torch.memory_format:
    is_channels_last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_channels_last else torch.contiguous_format


def enhancer_levels(enhancer: Enhancer) -> list[AdaptiveFeatureEnhancer]:
    """Return the branches of levels 1..5."""
    return cast("list[AdaptiveFeatureEnhancer]", list(enhancer.levels))


def _validate_widths(wide: AdaptiveFeatureEnhancer, slim: AdaptiveFeatureEnhancer, level: int) -> None:
    for name, channels in slim.branch_channels.items():
        available = wide.branch_channels.get(name, 0)
        if channels > available:
            raise ModelError(
                f"branch {name} of level {level} has {available} channels, so no slice of it has {channels}. "
                "Build the widest enhancer with the largest ratio of every branch."
            )


def detail_indices(wide: AdaptiveFeatureEnhancer, slim: AdaptiveFeatureEnhancer) -> list[int]:
    """Return the indices of the slim D_l's channels in the wide one."""
    indices: list[int] = []
    start = 0
    for name, channels in wide.branch_channels.items():
        indices += range(start, start + slim.branch_channels.get(name, 0))
        start += channels
    return indices
