"""A map of half the size, upsampled and convolved, in the order that is cheaper.

Bilinear resizing is linear and acts per channel, so it commutes with a convolution's own 1x1 projections, as sampling
does in `deform_conv`: out(p) = sum_t up(W_t x)(p + t). Projecting first multiplies a quarter as many pixels by the weights.
What is left is separable: a pair of small matrices, which upsample and shift in one go.

B batch; C input and O output channels; h, w size of the map below; H, W size that it is resized to.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS = 3  # a side
MAX_COST_RATIO = 0.5  # projecting first must save half of the multiply-adds, for it moves more memory


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize x (B, C, h, w) to `size` (H, W): bilinear, corners aligned."""
    return x if x.shape[-2:] == size else F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def should_project_first(coarse: Tensor, size: Sequence[int]) -> bool:
    """Whether `conv_of_upsampled` is worth it: on a CPU, outside of exporters, where channels are many.

    Per output channel, resizing first takes 9 C H W multiply-adds, projecting first 9 C h w and two small products.
    """
    if torch.compiler.is_compiling() or coarse.device.type != "cpu":
        return False
    (channels, h, w), (height, width) = coarse.shape[1:], size
    resized_first = TAPS**2 * channels * height * width
    projected_first = TAPS**2 * channels * h * w + TAPS * h * width * (TAPS * w + height)
    return projected_first < MAX_COST_RATIO * resized_first


def upsample_conv2d(coarse: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """Convolve what `resize` makes of below (B, C, h, w), zero outside, with weight (O, C, 3, 3) -> (B, O, H, W)."""
    (batch, channels, h, w), out_channels, (height, width) = coarse.shape, weight.shape[0], size
    pixels = coarse.permute(0, 2, 3, 1).reshape(-1, channels)
    matrix = weight.permute(0, 2, 3, 1).reshape(-1, channels)  # (9 O, C): no copy in channels-last memory
    projected = (pixels @ matrix.t()).view(batch, h, w, out_channels, TAPS, TAPS)
    by_column = projected.permute(0, 1, 4, 2, 5, 3).reshape(batch * h * TAPS, w * TAPS, out_channels)
    across = torch.matmul(upsample_matrix(w, width, coarse), by_column)  # (B h 3, W, O)
    down = torch.matmul(upsample_matrix(h, height, coarse), across.view(batch, h * TAPS, width * out_channels))
    return down.view(batch, height, width, out_channels).permute(0, 3, 1, 2)


def upsample_matrix(side: int, target: int, like: Tensor) -> Tensor:
    """What each pixel and tap gives to each place of an upsampled row: a matrix (target, 3 side), taps fastest.

    Tap t of place p looks at p + t - 1, where there is nothing beyond the border.
    """
    each_alone = torch.eye(side, dtype=like.dtype, device=like.device)[None]
    upsampled = F.interpolate(each_alone, target, mode="linear", align_corners=True)[0].t()  # (target, side)
    bordered = F.pad(upsampled, (0, 0, 1, 1))
    return torch.stack([bordered[tap : tap + target] for tap in range(TAPS)], dim=2).flatten(1)
