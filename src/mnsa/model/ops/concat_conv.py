"""A 3x3 convolution of several maps, as if they were concatenated.

Concatenating would copy every map and keep the copy for the backward pass. A convolution is linear: each map is convolved
with its own slice of the weights, and the results are added. Where a map has fewer pixels than there are output
channels, one matrix product per tap is faster (CPU only): oneDNN would reorder the weights in every pass.

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mnsa.model.ops.recompute import resize_recomputed, without_saving
from mnsa.model.ops.upsample_conv import should_project_first, upsample_conv2d


def sum_of_convs(dilation: int, kernel: Tensor, bias: Tensor | None, *maps: Tensor) -> Tensor:
    """Maps (B, C_i, H, W), kernel (O, C, 3, 3) of taps `dilation` apart, bias (O,) -> (B, O, H, W)."""
    weights = torch.split(kernel, [m.shape[1] for m in maps], dim=1)
    sums = F.conv2d(maps[0], weights[0], bias, padding=dilation, dilation=dilation)
    for features, weight in zip(maps[1:], weights[1:], strict=True):
        sums.add_(F.conv2d(features, weight, padding=dilation, dilation=dilation))
    return sums


class SplitKernel(Function):
    """A kernel (O, C, 3, 3) split into those of the first n input channels and of the others.

    The gradient lies as the kernel does. `torch.split`'s is joined by `cat`, slowly if its parts lie differently.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, n: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(kernel)
        return kernel[:, :n], kernel[:, n:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, others: Tensor) -> tuple[Tensor, None]:
        joined, n = torch.empty_like(*ctx.saved_tensors), first.shape[1]
        joined[:, :n], joined[:, n:] = first, others
        return joined, None


class ConvPerMap(Function):
    """The sum of the maps' own convolutions, in autocast's precision where there is one.

    Each weight gradient is written where it belongs, as the kernel lies; autograd would join them in a layout of their
    own, and copy the result into the kernel's. And nothing is kept of weights in lower precision.
    """

    @staticmethod
    def forward(ctx: Any, dilation: int, kernel: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.dilation = dilation
        ctx.save_for_backward(kernel, *maps)
        return sum_of_convs(dilation, kernel, bias, *maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernel, *maps = ctx.saved_tensors
        _, for_kernel, for_bias, *for_maps = ctx.needs_input_grad
        of_bias = gradient.sum(dim=(0, 2, 3), dtype=kernel.dtype) if for_bias else None
        of_kernel, of_maps = torch.empty_like(kernel), []
        weights, slots = (torch.split(k, [m.shape[1] for m in maps], dim=1) for k in (kernel, of_kernel))
        for features, for_map, weight, slot in zip(maps, for_maps, weights, slots, strict=True):
            of_map, of_weight = _conv_backward(ctx.dilation, gradient, features, weight, for_map, for_kernel)
            of_maps.append(of_map)
            if of_weight is not None:
                slot.copy_(of_weight)
        return None, of_kernel if for_kernel else None, of_bias, *of_maps


def _conv_backward(
    dilation: int, gradient: Tensor, features: Tensor, weight: Tensor, for_features: bool, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a 3x3 convolution for features and weight, those that are needed, in the gradient's precision."""
    # Without a gradient for the features the weight isn't read: then its copy in another precision is spared.
    weight = weight.to(gradient.dtype) if for_features else gradient.new_empty(weight.shape)
    features, around = features.to(gradient.dtype), [dilation, dilation]
    if dilation > 1 and gradient.dtype == torch.bfloat16 and gradient.device.type == "cpu":
        # With channels last, oneDNN's weight gradients of such convolutions with few channels are NaN (torch 2.15).
        features, weight, gradient = features.contiguous(), weight.contiguous(), gradient.contiguous()
    needs = for_features, for_weight, False
    of_features, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, [1, 1], around, around, False, [0, 0], 1, needs
    )
    return of_features, of_weight


Window = tuple[EllipsisType, slice, slice]


class ConvPerTap(Function):
    """out(p) = bias + sum over taps t and maps i of W_ti x_i(p + t).

    Products are in the maps' precision, sums in the weights'. Where p + t lies outside of the map nothing is
    multiplied: of a map of 7 px a fifth of the products.
    """

    @staticmethod
    def forward(ctx: Any, dilation: int, weight: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.dilation = dilation
        ctx.save_for_backward(weight, *maps)
        batch, _, height, width = maps[0].shape
        # The result is not itself a view, so that an activation may change it in place.
        out = bias.new_empty((batch, len(bias), height, width)).to(memory_format=torch.channels_last)
        out.copy_(bias.view(1, -1, 1, 1))
        for features, taps in zip(maps, _weights_per_tap(weight.to(maps[0].dtype), maps), strict=True):
            for tap, (here, there) in zip(taps, _tap_windows(out, dilation), strict=True):
                _add_product(out[here], features[there], tap.t())
        return out.to(maps[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            weight, *maps = ctx.saved_tensors
            _, for_weight, for_bias, *for_maps = ctx.needs_input_grad
            lower = weight.to(gradient.dtype) if any(for_maps) else weight
            taps = zip(for_maps, maps, _weights_per_tap(lower, maps), strict=True)
            return (
                None,
                _weight_gradient(gradient, weight, maps, ctx.dilation) if for_weight else None,
                gradient.sum(dim=(0, 2, 3), dtype=weight.dtype) if for_bias else None,
                *(
                    _map_gradient(gradient, features, own, ctx.dilation) if need else None
                    for need, features, own in taps
                ),
            )


def _weight_gradient(gradient: Tensor, weight: Tensor, maps: Sequence[Tensor], dilation: int) -> Tensor:
    result, windows = torch.empty_like(weight), _tap_windows(gradient, dilation)
    rows = [_flatten_pixels(gradient[here]) for here, _ in windows]
    for features, taps in zip(maps, _weights_per_tap(result, maps), strict=True):
        for tap, seen_from, (_, there) in zip(taps, rows, windows, strict=True):
            _write_product(tap, seen_from.t(), _flatten_pixels(features[there]))
    return result


def _map_gradient(gradient: Tensor, features: Tensor, taps: Sequence[Tensor], dilation: int) -> Tensor:
    summed_in = torch.promote_types(features.dtype, torch.float32)
    result = torch.zeros_like(features, dtype=summed_in, memory_format=torch.channels_last)
    for tap, (here, there) in zip(taps, _tap_windows(gradient, dilation), strict=True):
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
        by_pixel.view(-1, matrix.shape[1]).addmm_(_flatten_pixels(features), matrix)
    else:
        by_pixel.add_((_flatten_pixels(features) @ matrix).view(by_pixel.shape))


def _flatten_pixels(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _weights_per_tap(weight: Tensor, maps: Sequence[Tensor]) -> list[list[Tensor]]:
    """Views (O, C_i) of the weights (O, C, 3, 3): for each map nine, row by row."""
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1)  # (9, O, C)
    borders = accumulate((m.shape[1] for m in maps), initial=0)
    return [[tap[:, start:end] for tap in taps] for start, end in pairwise(borders)]


def _tap_windows(features: Tensor, dilation: int) -> list[tuple[Window, Window]]:
    """For each of the nine taps, row by row: the part of a map (B, C, H, W) that it sees from, and the part it sees."""
    height, width = features.shape[2:]
    steps = (-dilation, 0, dilation)
    return [
        (
            (..., _valid_range(y, height), _valid_range(x, width)),
            (..., _valid_range(-y, height), _valid_range(-x, width)),
        )
        for y in steps
        for x in steps
    ]


def _valid_range(step: int, length: int) -> slice:
    """From where one can go `step` places without leaving `length` places."""
    return slice(max(0, -step), max(0, length - max(0, step)))


KERNEL_SIZE = 3


class ConcatConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps the size. Its parameters are those of `torch.nn.Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, KERNEL_SIZE, padding=dilation, dilation=dilation)

    def forward(self, *maps: Tensor, coarse: Tensor | None = None) -> Tensor:
        """Maps (B, C_i, H, W), some perhaps of 0 channels, and one (B, C, h, w) to be resized -> (B, O, H, W)."""
        maps = tuple(m for m in maps if m.shape[1] > 0)
        if coarse is None:
            return self._concat_conv(maps, self.weight)
        size = maps[0].shape[-2:]
        if not should_project_first(coarse, size):
            return self._concat_conv((*maps, resize_recomputed(coarse, size)), self.weight)
        own, of_coarse = SplitKernel.apply(self.weight, self.in_channels - coarse.shape[1])
        with torch.autocast("cpu", enabled=False):
            from_coarse = upsample_conv2d(coarse.to(self.weight.dtype), of_coarse, size)
        return self._concat_conv(maps, own).add_(from_coarse)

    def _concat_conv(self, maps: Sequence[Tensor], kernel: Tensor) -> Tensor:
        """Convolve maps (B, C_i, H, W) with a kernel (O, C, 3, 3) -> (B, O, H, W)."""
        dilation = self.dilation[0]
        if torch.compiler.is_compiling():
            return sum_of_convs(dilation, kernel, self.bias, *maps)
        with without_saving(maps):
            if not _weights_dominate(maps[0], self.weight):
                return _apply_function(ConvPerMap, dilation, kernel, self.bias, *maps)
            precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kernel.dtype
            with torch.autocast("cpu", enabled=False):
                return _apply_function(ConvPerTap, dilation, kernel, self.bias, *(m.to(precision) for m in maps))


def _apply_function(function: type[Function], *arguments: Any) -> Tensor:
    joined: Tensor = function.apply(*arguments)
    return joined


def _weights_dominate(features: Tensor, weight: Tensor) -> bool:
    """Whether to multiply tap by tap: on a CPU, where pixels are fewer than output channels.

    A tap's matrix lies in one piece only in channels-last memory.
    """
    if features.device.type != "cpu":
        return False
    pixels = features.shape[0] * features.shape[2] * features.shape[3]
    return pixels < weight.shape[0] and weight.is_contiguous(memory_format=torch.channels_last)
