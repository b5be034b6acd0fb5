"""Tap by tap: the 3x3 convolution of joined maps as nine matrix products a map.

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Window = tuple[EllipsisType, slice, slice]


class TapByTap(Function):
    """out(p) = bias + sum over taps t and maps i of W_ti x_i(p + t).

    Products are in the maps' precision, sums in the weights'. Where p + t lies outside of the map nothing is
    multiplied: of a map of 7 px a fifth of the products.
    """

    @staticmethod
    def forward(ctx: Any, reach: int, weight: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.reach = reach
        ctx.save_for_backward(weight, *maps)
        batch, _, height, width = maps[0].shape
        # The result is not itself a view, so that an activation may change it in place.
        out = bias.new_empty((batch, len(bias), height, width)).to(memory_format=torch.channels_last)
        out.copy_(bias.view(1, -1, 1, 1))
        for features, taps in zip(maps, _taps_of_maps(weight.to(maps[0].dtype), maps), strict=True):
            for tap, (here, there) in zip(taps, _windows(out, reach), strict=True):
                _add_product(out[here], features[there], tap.t())
        return out.to(maps[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            weight, *maps = ctx.saved_tensors
            _, for_weight, for_bias, *for_maps = ctx.needs_input_grad
            lower = weight.to(gradient.dtype) if any(for_maps) else weight
            taps = zip(for_maps, maps, _taps_of_maps(lower, maps), strict=True)
            return (
                None,
                _weight_gradient(gradient, weight, maps, ctx.reach) if for_weight else None,
                gradient.sum(dim=(0, 2, 3), dtype=weight.dtype) if for_bias else None,
                *(_map_gradient(gradient, features, own, ctx.reach) if need else None for need, features, own in taps),
            )


def _weight_gradient(gradient: Tensor, weight: Tensor, maps: Sequence[Tensor], reach: int) -> Tensor:
    result, windows = torch.empty_like(weight), _windows(gradient, reach)
    rows = [_rows(gradient[here]) for here, _ in windows]
    for features, taps in zip(maps, _taps_of_maps(result, maps), strict=True):
        for tap, seen_from, (_, there) in zip(taps, rows, windows, strict=True):
            _write_product(tap, seen_from.t(), _rows(features[there]))
    return result


def _map_gradient(gradient: Tensor, features: Tensor, taps: Sequence[Tensor], reach: int) -> Tensor:
    summed_in = torch.promote_types(features.dtype, torch.float32)
    result = torch.zeros_like(features, dtype=summed_in, memory_format=torch.channels_last)
    for tap, (here, there) in zip(taps, _windows(gradient, reach), strict=True):
        _add_product(result[there], gradient[here], tap)
    return result.to(features.dtype)


def _write_product(place: Tensor, left: Tensor, right: Tensor) -> None:
    if place.dtype == left.dtype:
        torch.mm(left, right, out=place)
    else:
        place.copy_(left @ right)


def _add_product(total: Tensor, features: Tensor, matrix: Tensor) -> None:
    """Add features (B, C, h, w) times matrix (C, O) to total (B, O, h, w), in channels-last memory, in place."""
    by_pixel = total.permute(0, 2, 3, 1)
    if by_pixel.is_contiguous() and total.dtype == features.dtype:
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
