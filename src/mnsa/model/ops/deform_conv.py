"""Deformable convolution that projects first and samples afterwards.

Bilinear sampling is linear and acts on each channel alone, so it can trade places with the convolution's 1x1
projections: out(p) = bias + sum over taps t of Sample_t(W_t x)(p). Projecting C -> T*O channels first leaves O channels
per tap to sample instead of C. It uses only a matrix product and `grid_sample`, which every exporter supports; on an
NVIDIA GPU, Triton kernels in place of `grid_sample` (`mnsa.model.ops.tap_sampling`).

B batch; C input and O output channels; k kernel size; T = k*k taps; H, W size of the map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.model.ops.tap_sampling import deform_conv2d_triton, runs_triton


class DeformConv2d(nn.Module):
    """Deformable convolution of stride 1 that keeps the size.

    Its parameters are those of `torchvision.ops.DeformConv2d`. Outside the map, features are zero. Source: Dai et al.
    2017, Deformable Convolutional Networks, section 2.1.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Conv2d(in_channels, out_channels, kernel_size).weight
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Tensor, offsets: Tensor) -> Tensor:
        """Features (B, C, H, W), offsets (B, 2T, H, W) in pixels, (dy, dx) of the taps row by row -> (B, O, H, W)."""
        sampled = deform_conv2d(features, offsets, self.weight)
        return sampled + self.bias.to(sampled.dtype).view(1, -1, 1, 1)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution computed as a matrix product: faster on a CPU with few channels.

    Its output is contiguous, which sampling needs. The output of a channels-last convolution would have to be copied.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) -> (B, O, H, W)."""
        return pointwise_conv2d(features, self.weight.flatten(1), self.bias)


class OffsetPredictor(nn.Sequential):
    """Features (B, C, H, W) -> offsets (B, 2T, H, W) in pixels. New weights give zero offsets: a plain convolution."""

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int) -> None:
        last = PointwiseConv2d(hidden_channels, 2 * kernel_size**2)
        # Not in place: a pointwise convolution returns a view, and autograd copies a changed view many times.
        super().__init__(PointwiseConv2d(in_channels, hidden_channels), nn.ReLU(), last)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)


def deform_conv2d(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Features (B, C, H, W), offsets (B, 2T, H, W) in pixels, weight (O, C, k, k) -> (B, O, H, W)."""
    if features.is_cuda and runs_triton(features.device) and not torch.compiler.is_exporting():
        return deform_conv2d_triton(features, offsets, weight)
    return deform_conv2d_grid_sample(features, offsets, weight)


def deform_conv2d_grid_sample(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """`deform_conv2d` on any device, and for exporters."""
    projected = project_taps(features, weight)
    return sample_taps(projected, sampling_grid(offsets, weight.shape[-1]))


def deform_conv2d_reference(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """`deform_conv2d` in plain PyTorch: sample the features for each tap, then multiply."""
    grids = sampling_grid(offsets, weight.shape[-1]).unbind(1)
    sampled = [F.grid_sample(features, grid, padding_mode="zeros", align_corners=False) for grid in grids]
    return torch.einsum("tbchw,oct->bohw", torch.stack(sampled), weight.flatten(2))


def pointwise_conv2d(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply every pixel by a matrix. features (B, C, H, W), weight (O, C), bias (O,) -> (B, O, H, W)."""
    batch, _, height, width = features.shape
    matrices, columns = weight.expand(batch, -1, -1), features.flatten(2)
    product = torch.bmm(matrices, columns) if bias is None else torch.baddbmm(bias.view(1, -1, 1), matrices, columns)
    return product.view(batch, -1, height, width)


def project_taps(features: Tensor, weight: Tensor) -> Tensor:
    """Multiply features by the weights of each tap. features (B, C, H, W), weight (O, C, k, k) -> (B, T, O, H, W)."""
    out_channels, in_channels, k, _ = weight.shape
    per_tap = weight.permute(2, 3, 0, 1).reshape(k * k * out_channels, in_channels)
    projected = pointwise_conv2d(features, per_tap)
    return projected.view(projected.shape[0], k * k, out_channels, *projected.shape[2:])


def sampling_grid(offsets: Tensor, kernel_size: int) -> Tensor:
    """Compute the taps' sampling positions for `grid_sample`. offsets (B, 2T, H, W) -> (B, T, H, W, 2), (x, y) last.

    The grid is at least float32: half precision would round positions in large maps to whole pixels.
    """
    height, width = offsets.shape[-2:]
    offsets = offsets if offsets.dtype == torch.float64 else offsets.float()
    tap, rows, columns = (
        torch.arange(n, dtype=offsets.dtype, device=offsets.device) for n in (kernel_size, height, width)
    )
    tap = tap - (kernel_size - 1) / 2
    tap_y = tap.repeat_interleave(kernel_size).view(-1, 1, 1)  # (T, 1, 1)
    tap_x = tap.repeat(kernel_size).view(-1, 1, 1)
    base_y = (2 * (rows.view(1, -1, 1) + tap_y) + 1) / height - 1  # (T, H, 1)
    base_x = (2 * (columns.view(1, 1, -1) + tap_x) + 1) / width - 1  # (T, 1, W)
    dy, dx = offsets.view(-1, kernel_size**2, 2, height, width).unbind(2)  # (B, T, H, W) each
    y = torch.add(base_y, dy, alpha=2 / height)
    x = torch.add(base_x, dx, alpha=2 / width)
    # Stacked as two planes and permuted: exporters' runtimes concatenate planes faster than pairs.
    return torch.stack((x, y), dim=2).permute(0, 1, 3, 4, 2)


def sample_taps(projected: Tensor, grid: Tensor) -> Tensor:
    """Sample each tap's map and sum over taps. projected (B, T, O, H, W), grid (B, T, H, W, 2) -> (B, O, H, W)."""
    values = projected.to(grid.dtype).flatten(0, 1)  # (B*T, O, H, W)
    sampled = F.grid_sample(values, grid.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.view(projected.shape).sum(dim=1).to(projected.dtype)
