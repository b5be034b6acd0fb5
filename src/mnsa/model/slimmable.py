"""A slimmable enhancer: every narrower enhancer is a slice of the widest one, the first channels of each branch.

A one-shot search trains the widest one once and reads every width from it. D_l, S_l: channels of level l's details and
skip.
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
    """Runs `widest` at narrower widths, in its place. It owns no weights: gradients arrive in the widest ones.

    Raises: ModelError when a branch would be wider than the widest, or a level would have none.
    """

    def __init__(self, widest: Enhancer, widths: BranchWidths) -> None:
        super().__init__()
        with torch.device("meta"):  # shapes, no weights
            narrow = Enhancer(widest.in_channels, widths, widest.skip_ratio, widest.offset_channels)
        slice_weights(widest, narrow)  # what doesn't fit is refused now
        self._enhancers = (widest, narrow)  # in a tuple, which nn.Module doesn't look into: both are another's parts
        self.channels, self.skip_channels = narrow.channels, narrow.skip_channels

    def forward(self, pyramid: FeaturePyramid) -> tuple[EnhancedFeatures, ...]:
        """Compute D_l and S_l of levels 1..5 at the narrow widths."""
        widest, narrow = self._enhancers
        enhanced: tuple[EnhancedFeatures, ...] = functional_call(
            narrow, slice_weights(widest, narrow), (pyramid,), strict=True
        )
        return enhanced


def slice_weights(widest: Enhancer, narrow: Enhancer) -> dict[str, Tensor]:
    """Slices of the widest enhancer's weights, named and shaped as those of `narrow`, whose own values don't matter.

    Raises: ModelError when a branch of `narrow` is wider, or not there in `widest`.
    """
    slices: dict[str, Tensor] = {}
    for i, (wide, slim) in enumerate(zip(_levels(widest), _levels(narrow), strict=True)):
        _validate_widths(wide, slim, level=i + 1)
        weights = dict(wide.named_parameters())
        # Output channels come first in every weight; offset predictors are the same at every width.
        slices |= {f"levels.{i}.{name}": weights[name][: len(slot)] for name, slot in slim.named_parameters()}
        bridge = dict(widest.skips[i].named_parameters())
        rows, columns = narrow.skip_channels[i], _channel_indices(wide.branch_channels, slim.branch_channels)
        slices[f"skips.{i}.weight"] = bridge["weight"][:rows, columns]
        slices[f"skips.{i}.bias"] = bridge["bias"][:rows]
    return slices


def _levels(enhancer: Enhancer) -> list[AdaptiveFeatureEnhancer]:
    return cast("list[AdaptiveFeatureEnhancer]", list(enhancer.levels))


def _validate_widths(wide: AdaptiveFeatureEnhancer, slim: AdaptiveFeatureEnhancer, level: int) -> None:
    for name, channels in slim.branch_channels.items():
        have = wide.branch_channels.get(name, 0)
        if channels > have:
            raise ModelError(
                f"branch {name} of level {level} has {have} channels, so no slice of it has {channels}. "
                "Build the widest enhancer with the largest ratio of every branch."
            )


def _channel_indices(wide: Mapping[str, int], slim: Mapping[str, int]) -> list[int]:
    """Where the channels of the slim D_l stand in the wide one."""
    places: list[int] = []
    start = 0
    for name, channels in wide.items():
        places += range(start, start + slim.get(name, 0))
        start += channels
    return places
