"""A 3x3 convolution of several maps, as though they were concatenated.

Concatenating first would copy every map and keep the copy for the backward pass, which would then compute a gradient
for the whole of it, a frozen backbone's features too. A convolution is linear, so each map meets its own slice of the
weights, and the results are added up.

Where a map has fewer pixels than there are output channels, moving the weights is what takes time. There oneDNN first
reorders them, in every pass; multiplying them tap by tap, where they lie, saves that (CPU only).

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from mnsa.model.joined_by_map import MapByMap, SplitKernel, sum_of_convs
from mnsa.model.joined_by_tap import TapByTap
from mnsa.model.remade import not_kept, resized
from mnsa.model.upsampled import conv_of_upsampled, projecting_pays

KERNEL_SIZE = 3


class JoinedConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps the size. Its parameters are those of `torch.nn.Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, KERNEL_SIZE, padding=dilation, dilation=dilation)

    def forward(self, *maps: Tensor, below: Tensor | None = None) -> Tensor:
        """Maps (B, C_i, H, W), some perhaps of 0 channels, and one (B, C, h, w) to be resized -> (B, O, H, W)."""
        maps = tuple(m for m in maps if m.shape[1] > 0)
        if below is None:
            return self._join(maps, self.weight)
        size = maps[0].shape[-2:]
        if not projecting_pays(below, size):
            return self._join((*maps, resized(below, size)), self.weight)
        own, of_below = SplitKernel.apply(self.weight, self.in_channels - below.shape[1])
        with torch.autocast("cpu", enabled=False):
            from_below = conv_of_upsampled(below.to(self.weight.dtype), of_below, size)
        return self._join(maps, own).add_(from_below)

    def _join(self, maps: Sequence[Tensor], kernel: Tensor) -> Tensor:
        """Convolve maps (B, C_i, H, W) with a kernel (O, C, 3, 3) -> (B, O, H, W)."""
        reach = self.dilation[0]
        if torch.compiler.is_compiling():
            return sum_of_convs(reach, kernel, self.bias, *maps)
        with not_kept(maps):
            if not _weights_outweigh(maps[0], self.weight):
                return _joined(MapByMap, reach, kernel, self.bias, *maps)
            precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kernel.dtype
            with torch.autocast("cpu", enabled=False):
                return _joined(TapByTap, reach, kernel, self.bias, *(m.to(precision) for m in maps))


def _joined(function: type[Function], *arguments: Any) -> Tensor:
    joined: Tensor = function.apply(*arguments)
    return joined


def _weights_outweigh(features: Tensor, weight: Tensor) -> bool:
    """Whether to multiply tap by tap: on a CPU, where pixels are fewer than output channels.

    A tap's matrix lies in one piece only in channels-last memory.
    """
    if features.device.type != "cpu":
        return False
    pixels = features.shape[0] * features.shape[2] * features.shape[3]
    return pixels < weight.shape[0] and weight.is_contiguous(memory_format=torch.channels_last)
