"""A slimmable enhancer: every narrower enhancer uses a slice of the widest one's weights, each branch's first channels.

A one-shot search trains the widest enhancer once and evaluates all widths with its weights.

D_l, S_l: channels of level l's details and skip.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mnsa.errors import ModelError
from mnsa.model.enhancer import AdaptiveFeatureEnhancer, BranchWidths, EnhancedFeatures, Enhancer
from mnsa.structures import FeaturePyramid


class SlicedEnhancer(nn.Module):
    """Run the widest enhancer at narrower widths. It owns no weights: gradients go to those of the widest enhancer.

    Raises: ModelError when a branch is wider than in the widest enhancer, or a level has no branch.
    """

    def __init__(self, widest: Enhancer, widths: BranchWidths) -> None:
        super().__init__()
        with torch.device("meta"):  # shapes, no weights
            narrow = Enhancer(widest.in_channels, widths, widest.skip_ratio, widest.offset_channels)
        slice_weights(widest, narrow)  # raises now if it doesn't fit
        self._enhancers = (widest, narrow)  # a tuple, so that nn.Module does not register them
        self.channels, self.skip_channels = narrow.channels, narrow.skip_channels

    def forward(self, pyramid: FeaturePyramid) -> tuple[EnhancedFeatures, ...]:
        """Compute D_l and S_l of levels 1..5 at the narrow widths."""
        widest, narrow = self._enhancers
        enhanced: tuple[EnhancedFeatures, ...] = functional_call(
            narrow, slice_weights(widest, narrow), (pyramid,), strict=True
        )
        return enhanced


def slice_weights(widest: Enhancer, narrow: Enhancer) -> dict[str, Tensor]:
    """Slice the widest enhancer's weights to the names and shapes of `narrow`. The values of `narrow` are not read.

    Raises: ModelError when a branch of `narrow` is wider, or missing in `widest`.
    """
    slices: dict[str, Tensor] = {}
    for i, (wide, slim) in enumerate(zip(_levels(widest), _levels(narrow), strict=True)):
        _validate_widths(wide, slim, level=i + 1)
        weights = dict(wide.named_parameters())
        # Output channels are the first dimension of every weight. Offset predictors are equal at every width.
        slices |= {f"levels.{i}.{name}": weights[name][: len(slot)] for name, slot in slim.named_parameters()}
        bridge = dict(widest.skips[i].named_parameters())
        outputs, inputs = narrow.skip_channels[i], _channel_indices(wide.branch_channels, slim.branch_channels)
        slices[f"skips.{i}.weight"] = bridge["weight"][:outputs, inputs]
        slices[f"skips.{i}.bias"] = bridge["bias"][:outputs]
    return slices


def _levels(enhancer: Enhancer) -> list[AdaptiveFeatureEnhancer]:
    return cast("list[AdaptiveFeatureEnhancer]", list(enhancer.levels))


def _validate_widths(wide: AdaptiveFeatureEnhancer, slim: AdaptiveFeatureEnhancer, level: int) -> None:
    for name, channels in slim.branch_channels.items():
        available = wide.branch_channels.get(name, 0)
        if channels > available:
            raise ModelError(
                f"branch {name} of level {level} has {available} channels, so no slice of it has {channels}. "
                "Build the widest enhancer with the largest ratio of every branch."
            )


def _channel_indices(wide: Mapping[str, int], slim: Mapping[str, int]) -> list[int]:
    """Return the indices of the slim D_l's channels in the wide one."""
    indices: list[int] = []
    start = 0
    for name, channels in wide.items():
        indices += range(start, start + slim.get(name, 0))
        start += channels
    return indices
