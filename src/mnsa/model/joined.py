"""A 3x3 convolution of several maps, as though they were concatenated.

Concatenating first would copy every map and keep the copy for the backward pass, which would then compute a gradient
for the whole of it, a frozen backbone's features too. A convolution is linear, so each map meets its own slice of the
weights, and the results are added up.

Where a map has fewer pixels than there are output channels, moving the weights is what takes time. There oneDNN first
reorders them, in every pass; multiplying them tap by tap, where they lie, saves that (CPU only).

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mnsa.model.upsampled import conv_of_upsampled, projecting_pays, resize

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
            return self._join((*maps, resize(below, size)), self.weight)
        own, of_below = torch.split(self.weight, [self.in_channels - below.shape[1], below.shape[1]], dim=1)
        with torch.autocast("cpu", enabled=False):
            from_below = conv_of_upsampled(below.to(self.weight.dtype), of_below, size)
        return self._join(maps, own).add_(from_below)

    def _join(self, maps: Sequence[Tensor], kernel: Tensor) -> Tensor:
        """Convolve maps (B, C_i, H, W) with a kernel (O, C, 3, 3) -> (B, O, H, W)."""
        reach = self.dilation[0]
        if _weights_outweigh(maps[0], self.weight):
            with torch.autocast("cpu", enabled=False):
                precise = [m.to(kernel.dtype) for m in maps]
                joined: Tensor = _TapByTap.apply(reach, kernel, self.bias, *precise)
            return joined
        slices = torch.split(kernel, [m.shape[1] for m in maps], dim=1)
        sums = F.conv2d(maps[0], slices[0], self.bias, padding=reach, dilation=reach)
        for features, weight in zip(maps[1:], slices[1:], strict=True):
            sums = sums + F.conv2d(features, weight, padding=reach, dilation=reach)
        return sums


def _weights_outweigh(features: Tensor, weight: Tensor) -> bool:
    """Whether to multiply tap by tap: on a CPU, outside of exporters, where pixels are fewer than output channels.

    A tap's matrix lies in one piece only in channels-last memory.
    """
    if torch.compiler.is_compiling() or features.device.type != "cpu":
        return False
    pixels = features.shape[0] * features.shape[2] * features.shape[3]
    return pixels < weight.shape[0] and weight.is_contiguous(memory_format=torch.channels_last)


class _TapByTap(torch.autograd.Function):
    """out(p) = bias + sum over taps t and maps i of W_ti x_i(p + t), in the weights' precision."""

    @staticmethod
    def forward(ctx: Any, reach: int, weight: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.reach = reach
        ctx.save_for_backward(weight, *maps)
        batch, _, height, width = maps[0].shape
        # The result is not itself a view, so that an activation may change it in place.
        out = bias.new_empty((batch, len(bias), height, width)).to(memory_format=torch.channels_last)
        rows = out.permute(0, 2, 3, 1).view(-1, len(bias)).copy_(bias)
        for features, taps in zip(maps, _taps_of_maps(weight, maps), strict=True):
            for shifted, tap in zip(_shifted(features, reach), taps, strict=True):
                rows.addmm_(shifted, tap.t())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            weight, *maps = ctx.saved_tensors
            _, for_weight, for_bias, *for_maps = ctx.needs_input_grad
            rows = gradient.permute(0, 2, 3, 1).reshape(-1, weight.shape[0])  # (B H W, O)
            taps = zip(for_maps, maps, _taps_of_maps(weight, maps), strict=True)
            return (
                None,
                _weight_gradient(rows, weight, maps, ctx.reach) if for_weight else None,
                rows.sum(dim=0) if for_bias else None,
                *(_map_gradient(rows, features, own, ctx.reach) if needed else None for needed, features, own in taps),
            )


def _weight_gradient(rows: Tensor, weight: Tensor, maps: Sequence[Tensor], reach: int) -> Tensor:
    gradient, columns = torch.empty_like(weight), rows.t().contiguous()
    for features, taps in zip(maps, _taps_of_maps(gradient, maps), strict=True):
        for shifted, tap in zip(_shifted(features, reach), taps, strict=True):
            torch.mm(columns, shifted, out=tap)
    return gradient


def _map_gradient(rows: Tensor, features: Tensor, taps: Sequence[Tensor], reach: int) -> Tensor:
    batch, channels, height, width = features.shape
    padded = rows.new_zeros(batch, height + 2 * reach, width + 2 * reach, channels)
    for window, tap in zip(_windows(padded, reach), taps, strict=True):
        window.add_((rows @ tap).view(batch, height, width, channels))
    return padded[:, reach:-reach, reach:-reach].permute(0, 3, 1, 2)


def _taps_of_maps(weight: Tensor, maps: Sequence[Tensor]) -> list[list[Tensor]]:
    """Views (O, C_i) of the weights (O, C, 3, 3): for each map nine, row by row."""
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1)  # (9, O, C)
    borders = accumulate((m.shape[1] for m in maps), initial=0)
    return [[tap[:, start:end] for tap in taps] for start, end in pairwise(borders)]


def _shifted(features: Tensor, reach: int) -> Iterator[Tensor]:
    """What each tap sees at each pixel: (B, C, H, W) -> nine times (B H W, C), zero outside of the map."""
    batch, channels, height, width = features.shape
    padded = features.new_zeros(batch, height + 2 * reach, width + 2 * reach, channels)
    padded[:, reach:-reach, reach:-reach] = features.permute(0, 2, 3, 1)
    for window in _windows(padded, reach):
        yield window.reshape(-1, channels)


def _windows(padded: Tensor, reach: int) -> Iterator[Tensor]:
    """Views (B, H, W, C) of a map padded by `reach` on each side: nine, as the taps see it, row by row."""
    height, width = padded.shape[1] - 2 * reach, padded.shape[2] - 2 * reach
    for top in (0, reach, 2 * reach):
        for left in (0, reach, 2 * reach):
            yield padded[:, top : top + height, left : left + width]
