"""Upsample a feature map and convolve it, in the order that is cheaper.

Bilinear resizing is linear and acts on each channel alone, so it can trade places with the convolution's 1x1
projections: out(p) = sum over taps t of up(W_t x)(p + t). Projecting first multiplies a quarter as many pixels by the
weights. The rest is separable: two small matrices, each of which upsamples and shifts along one axis.

B batch; C input and O output channels; h, w size of the coarse map; H, W size after upsampling.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS = 3  # a side
MAX_COST_RATIO = 0.5  # projecting first moves more memory, so it must save half of the multiply-adds


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
    resize_first = TAPS**2 * channels * height * width
    project_first = TAPS**2 * channels * h * w + TAPS * h * width * (TAPS * w + height)
    return project_first < MAX_COST_RATIO * resize_first


def upsample_conv2d(coarse: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """Resize coarse (B, C, h, w) to `size` (H, W) and convolve it by weight (O, C, 3, 3), padding 1: (B, O, H, W)."""
    (batch, channels, h, w), out_channels, (height, width) = coarse.shape, weight.shape[0], size
    pixels = coarse.permute(0, 2, 3, 1).reshape(-1, channels)
    matrix = weight.permute(0, 2, 3, 1).reshape(-1, channels)  # (9 O, C): no copy in channels-last memory
    projected = (pixels @ matrix.t()).view(batch, h, w, out_channels, TAPS, TAPS)
    by_column = projected.permute(0, 1, 4, 2, 5, 3).reshape(batch * h * TAPS, w * TAPS, out_channels)
    wide = torch.matmul(upsample_matrix(w, width, coarse), by_column)  # (B h 3, W, O)
    full = torch.matmul(upsample_matrix(h, height, coarse), wide.view(batch, h * TAPS, width * out_channels))
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
    return torch.stack([bordered[tap : tap + target] for tap in range(TAPS)], dim=2).flatten(1)
