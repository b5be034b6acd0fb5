"""Map by map: the 3x3 convolution of joined maps as the sum of each map's own.

B batch; C_i channels of map i, C their sum; O output channels; H, W size of the maps.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def sum_of_convs(reach: int, kernel: Tensor, bias: Tensor | None, *maps: Tensor) -> Tensor:
    """Maps (B, C_i, H, W), kernel (O, C, 3, 3) of taps `reach` apart, bias (O,) -> (B, O, H, W)."""
    weights = torch.split(kernel, [m.shape[1] for m in maps], dim=1)
    sums = F.conv2d(maps[0], weights[0], bias, padding=reach, dilation=reach)
    for features, weight in zip(maps[1:], weights[1:], strict=True):
        sums.add_(F.conv2d(features, weight, padding=reach, dilation=reach))
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


class MapByMap(Function):
    """The sum of the maps' own convolutions, in autocast's precision where there is one.

    Each weight gradient is written where it belongs, as the kernel lies; autograd would join them in a layout of their
    own, and copy the result into the kernel's. And nothing is kept of weights in lower precision.
    """

    @staticmethod
    def forward(ctx: Any, reach: int, kernel: Tensor, bias: Tensor, *maps: Tensor) -> Tensor:
        ctx.reach = reach
        ctx.save_for_backward(kernel, *maps)
        return sum_of_convs(reach, kernel, bias, *maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernel, *maps = ctx.saved_tensors
        _, for_kernel, for_bias, *for_maps = ctx.needs_input_grad
        of_bias = gradient.sum(dim=(0, 2, 3), dtype=kernel.dtype) if for_bias else None
        of_kernel, of_maps = torch.empty_like(kernel), []
        weights, slots = (torch.split(k, [m.shape[1] for m in maps], dim=1) for k in (kernel, of_kernel))
        for features, for_map, weight, slot in zip(maps, for_maps, weights, slots, strict=True):
            of_map, of_weight = _conv_backward(ctx.reach, gradient, features, weight, for_map, for_kernel)
            of_maps.append(of_map)
            if of_weight is not None:
                slot.copy_(of_weight)
        return None, of_kernel if for_kernel else None, of_bias, *of_maps


def _conv_backward(
    reach: int, gradient: Tensor, features: Tensor, weight: Tensor, for_features: bool, for_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a 3x3 convolution for features and weight, those that are needed, in the gradient's precision."""
    # Without a gradient for the features the weight isn't read: then its copy in another precision is spared.
    weight = weight.to(gradient.dtype) if for_features else gradient.new_empty(weight.shape)
    features, around = features.to(gradient.dtype), [reach, reach]
    if reach > 1 and gradient.dtype == torch.bfloat16 and gradient.device.type == "cpu":
        # With channels last, oneDNN's weight gradients of such convolutions with few channels are NaN (torch 2.15).
        features, weight, gradient = features.contiguous(), weight.contiguous(), gradient.contiguous()
    needs = for_features, for_weight, False
    of_features, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, features, weight, None, [1, 1], around, around, False, [0, 0], 1, needs
    )
    return of_features, of_weight
