"""A 3x3 convolution of several maps, as though they were concatenated.

Concatenating first would copy every map and keep the copy for the backward pass, which would then compute a gradient
for the whole of it, a frozen backbone's features too. A convolution is linear, so each map meets its own slice of the
weights, and the results are added up.

Where a map has fewer pixels than there are output channels, moving the weights is what takes time. There oneDNN first
reorders them, in every pass; multiplying them tap by tap, where they lie, saves that (CPU only).

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mnsa.model.upsampled import conv_of_upsampled, projecting_pays, resize

KERNEL_SIZE = 3
Window = tuple[EllipsisType, slice, slice]


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
    """out(p) = bias + sum over taps t and maps i of W_ti x_i(p + t), in the weights' precision.

    Where p + t lies outside of the map nothing is multiplied: of a map of 7 px a fifth of the products.
    """

    @staticmethod
    def forward(ctx: Any, reach: int, weight: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.reach = reach
        ctx.save_for_backward(weight, *maps)
        batch, _, height, width = maps[0].shape
        # The result is not itself a view, so that an activation may change it in place.
        out = bias.new_empty((batch, len(bias), height, width)).to(memory_format=torch.channels_last)
        out.copy_(bias.view(1, -1, 1, 1))
        for features, taps in zip(maps, _taps_of_maps(weight, maps), strict=True):
            for tap, (here, there) in zip(taps, _windows(out, reach), strict=True):
                _add_product(out[here], features[there], tap.t())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            weight, *maps = ctx.saved_tensors
            _, for_weight, for_bias, *for_maps = ctx.needs_input_grad
            taps = zip(for_maps, maps, _taps_of_maps(weight, maps), strict=True)
            return (
                None,
                _weight_gradient(gradient, weight, maps, ctx.reach) if for_weight else None,
                gradient.sum(dim=(0, 2, 3)) if for_bias else None,
                *(_map_gradient(gradient, features, own, ctx.reach) if need else None for need, features, own in taps),
            )


def _weight_gradient(gradient: Tensor, weight: Tensor, maps: Sequence[Tensor], reach: int) -> Tensor:
    result, windows = torch.empty_like(weight), _windows(gradient, reach)
    rows = [_rows(gradient[here]) for here, _ in windows]
    for features, taps in zip(maps, _taps_of_maps(result, maps), strict=True):
        for tap, seen_from, (_, there) in zip(taps, rows, windows, strict=True):
            torch.mm(seen_from.t(), _rows(features[there]), out=tap)
    return result


def _map_gradient(gradient: Tensor, features: Tensor, taps: Sequence[Tensor], reach: int) -> Tensor:
    result = torch.zeros_like(features, memory_format=torch.channels_last)
    for tap, (here, there) in zip(taps, _windows(gradient, reach), strict=True):
        _add_product(result[there], gradient[here], tap)
    return result


def _add_product(total: Tensor, features: Tensor, matrix: Tensor) -> None:
    """Add features (B, C, h, w) times matrix (C, O) to total (B, O, h, w), in channels-last memory, in place."""
    by_pixel = total.permute(0, 2, 3, 1)
    if by_pixel.is_contiguous():
        by_pixel.view(-1, matrix.shape[1]).addmm_(_rows(features), matrix)
    else:
        by_pixel.add_((_rows(features) @ matrix).view(by_pixel.shape))


def _rows(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _taps_of_maps(weight: Tensor, maps: Sequence[Tensor]) -> list[list[Tensor]]:
    """Views (O, C_i) of the weights (O, C, 3, 3): for each map nine, row by row."""
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1)  # (9, O, C)
    borders = accumulate((m.shape[1] for m in maps), initial=0)
    return [[tap[:, start:end] for tap in taps] for start, end in pairwise(borders)]


def _windows(features: Tensor, reach: int) -> list[tuple[Window, Window]]:
    """For each of the nine taps, row by row: the part of a map (B, C, H, W) that it sees from, and the part it sees."""
    height, width = features.shape[2:]
    steps = (-reach, 0, reach)
    return [
        ((..., _inside(y, height), _inside(x, width)), (..., _inside(-y, height), _inside(-x, width)))
        for y in steps
        for x in steps
    ]


def _inside(step: int, length: int) -> slice:
    """From where one can go `step` places without leaving `length` places."""
    return slice(max(0, -step), max(0, length - max(0, step)))
