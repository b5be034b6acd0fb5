"""A 3x3 convolution of several feature maps, as if they were concatenated.

Concatenation would copy every map and save the copy for the backward pass. A convolution is linear: `ConvPerMap`
convolves each map with its own slice of the kernel and adds the results. On a CPU, where a map has fewer pixels than
there are output channels, `ConvPerTap` is faster: one matrix product per tap. oneDNN would reorder the weights each
time.

One map may be coarser. Bilinear resizing is linear and acts on each channel alone, so it can trade places with the
kernel's 1x1 projections: out(p) = sum over taps t of up(W_t x)(p + t). Projecting first multiplies a quarter as many
pixels by the weights. The rest is separable: two small matrices, each of which upsamples and shifts along one axis.

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate, pairwise
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mnsa.model.ops.recompute import recomputes, without_saving

KERNEL_SIZE = 3

MAX_COST_RATIO = 0.5  # projecting before upsampling moves more memory, so it must save half of the multiply-adds

Window = tuple[EllipsisType, slice, slice]


class ConcatConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps the size. Its parameters are those of `torch.nn.Conv2d`."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, KERNEL_SIZE, padding=dilation, dilation=dilation)

    def forward(self, *maps: Tensor, coarse: Tensor | None = None) -> Tensor:
        """Convolve maps (B, C_i, H, W) -> (B, O, H, W). A map may have 0 channels.

        coarse: one more map (B, C_i, h, w), which is resized to (H, W); its channels come last.
        """
        maps = tuple(m for m in maps if m.shape[1] > 0)
        if coarse is None:
            return self._concat_conv(maps, self.weight)
        size = maps[0].shape[-2:]
        if not should_project_first(coarse, size):
            resize_coarse = resize_recomputed if torch.is_grad_enabled() else resize
            return self._concat_conv((*maps, resize_coarse(coarse, size)), self.weight)
        fine_kernel, coarse_kernel = SplitKernel.apply(self.weight, self.in_channels - coarse.shape[1])
        with torch.autocast("cpu", enabled=False):
            from_coarse = upsample_conv2d(coarse.to(self.weight.dtype), coarse_kernel, size)
        return self._concat_conv(maps, fine_kernel).add_(from_coarse)

    def _concat_conv(self, maps: Sequence[Tensor], kernel: Tensor) -> Tensor:
        """Convolve maps (B, C_i, H, W) with a kernel (O, C, 3, 3) -> (B, O, H, W)."""
        if torch.compiler.is_compiling():
            return sum_of_convs(self.dilation[0], kernel, self.bias, *maps)
        with without_saving(maps) if torch.is_grad_enabled() else nullcontext():
            return self._apply_fastest(maps, kernel)

    def _apply_fastest(self, maps: Sequence[Tensor], kernel: Tensor) -> Tensor:
        dilation = self.dilation[0]
        if not _has_fewer_pixels_than_outputs(maps[0], self.weight):
            return _apply(ConvPerMap, dilation, kernel, self.bias, *maps)
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kernel.dtype
        with torch.autocast("cpu", enabled=False):
            return _apply(ConvPerTap, dilation, kernel, self.bias, *(m.to(precision) for m in maps))


def concat_conv2d_reference(
    maps: Sequence[Tensor], weight: Tensor, bias: Tensor | None, dilation: int = 1, coarse: Tensor | None = None
) -> Tensor:
    """`ConcatConv2d` in plain PyTorch: resize the coarse map, concatenate, convolve."""
    resized = [] if coarse is None else [resize(coarse, maps[0].shape[-2:])]
    return F.conv2d(torch.cat([*maps, *resized], dim=1), weight, bias, padding=dilation, dilation=dilation)


def sum_of_convs(dilation: int, kernel: Tensor, bias: Tensor | None, *maps: Tensor) -> Tensor:
    """Maps (B, C_i, H, W), kernel (O, C, 3, 3) of taps `dilation` apart, bias (O,) -> (B, O, H, W)."""
    weights = torch.split(kernel, [m.shape[1] for m in maps], dim=1)
    sums = F.conv2d(maps[0], weights[0], bias, padding=dilation, dilation=dilation)
    for features, weight in zip(maps[1:], weights[1:], strict=True):
        sums.add_(F.conv2d(features, weight, padding=dilation, dilation=dilation))
    return sums


class SplitKernel(Function):
    """Split a kernel (O, C, 3, 3) into the first n input channels and the others.

    The gradient has the memory format of the kernel. `torch.split` would concatenate it, slowly if formats differ.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, n: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(kernel)
        return kernel[:, :n], kernel[:, n:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, others: Tensor) -> tuple[Tensor, None]:
        gradient, n = torch.empty_like(*ctx.saved_tensors), first.shape[1]
        gradient[:, :n], gradient[:, n:] = first, others
        return gradient, None


class ConvPerMap(Function):
    """Convolve each map alone and add the results, in autocast's precision under autocast.

    Each weight gradient is written into its slice of the kernel's gradient, in the kernel's memory format. Autograd
    would concatenate the gradients in another format and copy the result. No copy of the kernel in lower precision is
    saved.
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
        _, needs_kernel, needs_bias, *needs_maps = ctx.needs_input_grad
        grad_bias = gradient.sum(dim=(0, 2, 3), dtype=kernel.dtype) if needs_bias else None
        grad_kernel, grad_maps = torch.empty_like(kernel), []
        weights, slices = (torch.split(k, [m.shape[1] for m in maps], dim=1) for k in (kernel, grad_kernel))
        for features, needs_map, weight, grad_slice in zip(maps, needs_maps, weights, slices, strict=True):
            grad_map, grad_weight = _conv_backward(ctx.dilation, gradient, features, weight, needs_map, needs_kernel)
            grad_maps.append(grad_map)
            if grad_weight is not None:
                grad_slice.copy_(grad_weight)
        return None, grad_kernel if needs_kernel else None, grad_bias, *grad_maps


def _conv_backward(
    dilation: int, gradient: Tensor, features: Tensor, weight: Tensor, needs_features: bool, needs_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the needed gradients of a 3x3 convolution, for features and weight, in the gradient's precision."""
    # The weight is read only for the gradient of the features. Otherwise its copy in another precision is not needed.
    weight = weight.to(gradient.dtype) if needs_features else gradient.new_empty(weight.shape)
    features, pair = features.to(gradient.dtype), [dilation, dilation]
    if dilation > 1 and gradient.dtype == torch.bfloat16 and gradient.device.type == "cpu":
        # In channels-last memory, oneDNN's weight gradients of such convolutions with few channels are NaN (torch
        # 2.15).
        features, weight, gradient = features.contiguous(), weight.contiguous(), gradient.contiguous()
    needs = needs_features, needs_weight, False
    grad_features, grad_weight, _ = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, [1, 1], pair, pair, False, [0, 0], 1, needs
    )
    return grad_features, grad_weight


class ConvPerTap(Function):
    """Compute out(p) = bias + sum over taps t and maps i of W_ti x_i(p + t), one matrix product per tap and map.

    Products have the precision of the maps, sums that of the weights. Positions p + t outside the map are skipped: a
    fifth of the products in a map of 7 x 7 px.
    """

    @staticmethod
    def forward(ctx: Any, dilation: int, weight: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.dilation = dilation
        ctx.save_for_backward(weight, *maps)
        batch, _, height, width = maps[0].shape
        # The result must not be a view, so that an activation can change it in place.
        out = bias.new_empty((batch, len(bias), height, width)).to(memory_format=torch.channels_last)
        out.copy_(bias.view(1, -1, 1, 1))
        for features, taps in zip(maps, _weights_per_tap(weight.to(maps[0].dtype), maps), strict=True):
            for tap, (target, source) in zip(taps, _tap_windows(out, dilation), strict=True):
                _add_product(out[target], features[source], tap.t())
        return out.to(maps[0].dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            weight, *maps = ctx.saved_tensors
            _, needs_weight, needs_bias, *needs_maps = ctx.needs_input_grad
            lower = weight.to(gradient.dtype) if any(needs_maps) else weight
            return (
                None,
                _weight_gradient(gradient, weight, maps, ctx.dilation) if needs_weight else None,
                gradient.sum(dim=(0, 2, 3), dtype=weight.dtype) if needs_bias else None,
                *(
                    _map_gradient(gradient, features, taps, ctx.dilation) if needed else None
                    for needed, features, taps in zip(needs_maps, maps, _weights_per_tap(lower, maps), strict=True)
                ),
            )


def _weight_gradient(gradient: Tensor, weight: Tensor, maps: Sequence[Tensor], dilation: int) -> Tensor:
    result, windows = torch.empty_like(weight), _tap_windows(gradient, dilation)
    targets = [_flatten_pixels(gradient[target]) for target, _ in windows]
    for features, taps in zip(maps, _weights_per_tap(result, maps), strict=True):
        for tap, target, (_, source) in zip(taps, targets, windows, strict=True):
            _write_product(tap, target.t(), _flatten_pixels(features[source]))
    return result


def _map_gradient(gradient: Tensor, features: Tensor, taps: Sequence[Tensor], dilation: int) -> Tensor:
    sum_dtype = torch.promote_types(features.dtype, torch.float32)
    result = torch.zeros_like(features, dtype=sum_dtype, memory_format=torch.channels_last)
    for tap, (target, source) in zip(taps, _tap_windows(gradient, dilation), strict=True):
        _add_product(result[source], gradient[target], tap)
    return result.to(features.dtype)


def _write_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


def _add_product(total: Tensor, features: Tensor, matrix: Tensor) -> None:
    """Add features (B, C, h, w) times matrix (C, O) to the channels-last total (B, O, h, w), in place."""
    by_pixel = total.permute(0, 2, 3, 1)
    if by_pixel.is_contiguous() and total.dtype == features.dtype:
        by_pixel.view(-1, matrix.shape[1]).addmm_(_flatten_pixels(features), matrix)
    else:
        by_pixel.add_((_flatten_pixels(features) @ matrix).view(by_pixel.shape))


def _flatten_pixels(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _weights_per_tap(weight: Tensor, maps: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return views (O, C_i) of the weights (O, C, 3, 3): nine for each map, row by row."""
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1)  # (9, O, C)
    borders = accumulate((m.shape[1] for m in maps), initial=0)
    return [[tap[:, start:end] for tap in taps] for start, end in pairwise(borders)]


def _tap_windows(features: Tensor, dilation: int) -> list[tuple[Window, Window]]:
    """Return (target, source) for the nine taps, row by row: output window, and the window that the tap reads."""
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
    """Return the positions p in 0..length - 1 for which p + step is in that range too."""
    return slice(max(0, -step), max(0, length - max(0, step)))


def _apply(function: type[Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result


def _has_fewer_pixels_than_outputs(features: Tensor, weight: Tensor) -> bool:
    """Check whether `ConvPerTap` is faster: on a CPU, with fewer pixels than output channels.

    The kernel must be channels-last: only then is the matrix of a tap contiguous.
    """
    if features.device.type != "cpu":
        return False
    pixels = features.shape[0] * features.shape[2] * features.shape[3]
    return pixels < weight.shape[0] and weight.is_contiguous(memory_format=torch.channels_last)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize x (B, C, h, w) to `size` (H, W): bilinear, corners aligned."""
    return x if x.shape[-2:] == size else F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def should_project_first(coarse: Tensor, size: Sequence[int]) -> bool:
    """Check whether `upsample_conv2d` is faster than resizing first: on a CPU, with many channels, not exported.

    Multiply-adds per output channel: 9 C H W when resizing first; 9 C h w and two small products when projecting first.
    """
    if torch.compiler.is_compiling() or coarse.device.type != "cpu":
        return False
    (channels, h, w), (height, width) = coarse.shape[1:], size
    resize_first = KERNEL_SIZE**2 * channels * height * width
    project_first = KERNEL_SIZE**2 * channels * h * w + KERNEL_SIZE * h * width * (KERNEL_SIZE * w + height)
    return project_first < MAX_COST_RATIO * resize_first


def upsample_conv2d(coarse: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """Resize coarse (B, C, h, w) to `size` (H, W) and convolve it by weight (O, C, 3, 3), padding 1: (B, O, H, W)."""
    (batch, channels, h, w), out_channels, (height, width) = coarse.shape, weight.shape[0], size
    pixels = coarse.permute(0, 2, 3, 1).reshape(-1, channels)
    matrix = weight.permute(0, 2, 3, 1).reshape(-1, channels)  # (9 O, C): no copy in channels-last memory
    projected = (pixels @ matrix.t()).view(batch, h, w, out_channels, KERNEL_SIZE, KERNEL_SIZE)
    by_column = projected.permute(0, 1, 4, 2, 5, 3).reshape(batch * h * KERNEL_SIZE, w * KERNEL_SIZE, out_channels)
    wide = torch.matmul(upsample_matrix(w, width, coarse), by_column)  # (B h 3, W, O)
    full = torch.matmul(upsample_matrix(h, height, coarse), wide.view(batch, h * KERNEL_SIZE, width * out_channels))
    return full.view(batch, height, width, out_channels).permute(0, 3, 1, 2)


def upsample_conv2d_reference(coarse: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """`upsample_conv2d` in plain PyTorch."""
    return F.conv2d(resize(coarse, size), weight, padding=1)


def upsample_matrix(side: int, target: int, like: Tensor) -> Tensor:
    """Build the matrix (target, 3 side) that upsamples a row of `side` pixels for three taps; taps vary fastest.

    Tap t of output pixel p reads the upsampled pixel p + t - 1; beyond the border it reads zero. like: dtype and
    device.
    """
    identity = torch.eye(side, dtype=like.dtype, device=like.device)[None]
    upsampled = F.interpolate(identity, target, mode="linear", align_corners=True)[0].t()  # (target, side)
    bordered = F.pad(upsampled, (0, 0, 1, 1))
    return torch.stack([bordered[tap : tap + target] for tap in range(KERNEL_SIZE)], dim=2).flatten(1)


def resize_recomputed(x: Tensor, size: Sequence[int]) -> Tensor:
    """Compute `resize(x, size)`. The result can be recomputed from x, or from what x itself is recomputed from."""
    if x.shape[-2:] == tuple(size) or not recomputes():
        return resize(x, size)
    with without_saving([x]):
        resized: Tensor = _Resize.apply(x, tuple(size))
    return resized


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.shape, ctx.size, ctx.recompute = x.shape, size, _recompute_resize
        return resize(x, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        upsample_backward = torch.ops.aten.upsample_bilinear2d_backward
        return upsample_backward(gradient, ctx.size, ctx.shape, True), None


def _recompute_resize(node: Any) -> Tensor:
    (x,) = node.saved_tensors
    return resize(x.detach(), node.size)
