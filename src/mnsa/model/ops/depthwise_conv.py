"""Depthwise convolution whose backward pass on a CPU is fast in bfloat16, too.

oneDNN has no fast kernels for the gradients of depthwise convolutions in bfloat16: with a stride of 2 or 5x5 weights
they take 3 to 25 times as long as in float32. So these gradients are computed in float32, in channels-last memory. The
forward pass stays in bfloat16. `benchmarks/depthwise_conv_speed.py` compares both.

B batch; C channels; H, W size of the input and H', W' of the output; k size of the kernel.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_FAST_KERNEL = 3  # oneDNN has fast gradients in bfloat16 for a stride of 1


def trains_faster(conv: nn.Conv2d, features: Tensor) -> bool:
    """Check whether `depthwise_conv` is faster for a module and its input: in bfloat16 on a CPU, outside compilers."""
    if not is_depthwise(conv) or torch.compiler.is_compiling() or not _is_bfloat16_on_cpu(features):
        return False
    return max(conv.kernel_size) > _FAST_KERNEL or max(conv.stride) > 1


def is_depthwise(conv: nn.Module) -> bool:
    """Check whether a module is a convolution with one kernel for each channel, and zeros as padding."""
    if not isinstance(conv, nn.Conv2d) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return False
    return 1 < conv.groups == conv.in_channels == conv.out_channels


def depthwise_conv(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Convolve features (B, C, H, W) with weights (C, 1, k, k) and bias (C,) -> (B, C, H', W'), in bfloat16.

    Gradients have the types of the arguments. They are rounded to bfloat16 once, for the features alone.
    """
    convolved: Tensor = _DepthwiseConv.apply(features, weight, bias, stride, padding, dilation)
    return convolved


def depthwise_conv_reference(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """`depthwise_conv` in plain PyTorch."""
    dtype = torch.bfloat16
    cast_bias = None if bias is None else bias.to(dtype)
    return F.conv2d(features.to(dtype), weight.to(dtype), cast_bias, stride, padding, dilation, features.shape[1])


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        ctx.input_dtype, ctx.has_bias = features.dtype, bias is not None
        ctx.geometry = stride, padding, dilation
        features = features.to(torch.bfloat16)
        ctx.save_for_backward(features, weight)
        return depthwise_conv_reference(features, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.has_bias and ctx.needs_input_grad[2]]
        grad_features, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            _in_float32(grad),
            _in_float32(features),
            weight.to(torch.bfloat16).float(),  # the values that the forward pass used
            [len(weight)] if ctx.has_bias else None,
            stride,
            padding,
            dilation,
            False,  # not transposed
            [0, 0],  # output padding
            len(weight),
            needed,
        )
        if grad_features is not None:
            grad_features = grad_features.to(ctx.input_dtype)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_features, grad_weight, grad_bias, None, None, None


def _in_float32(features: Tensor) -> Tensor:
    return features.to(torch.float32, memory_format=torch.channels_last)


def _is_bfloat16_on_cpu(features: Tensor) -> bool:
    if features.device.type != "cpu":
        return False
    in_autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return in_autocast or features.dtype == torch.bfloat16
