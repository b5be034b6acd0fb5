"""The operator `mnsa::sample_taps`: sum the projected taps of a deformable convolution, each sampled at its positions.

It runs the Triton kernels of `mnsa.model.ops.tap_kernels`, which this file imports when the operator first computes.
The gradient of the projected map is added up by atomics; with `torch.use_deterministic_algorithms`, each pixel collects
it in a fixed order.

B batch; O output channels; T = k*k taps of kernel size k; H, W size of the map; R >= T*O channels of a projected pixel.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROW_MULTIPLE = 16  # for tensor cores, and for Triton to load several channels at once
MIN_CAPABILITY = (8, 0)  # of NVIDIA GPUs that Triton supports
MAX_CHANNELS = 64  # of a program's block
BLOCK_ELEMENTS = 1024  # pixels times channels of a program's block

_HAS_TRITON = find_spec("triton") is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def runs_triton(device: torch.device) -> bool:
    """Check whether the operator runs on a device: an NVIDIA GPU that Triton supports, with Triton installed."""
    if device.type != "cuda" or not _HAS_TRITON or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device) >= MIN_CAPABILITY


def deform_conv2d_triton(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Features (B, C, H, W), offsets (B, 2T, H, W) in pixels, weight (O, C, k, k) -> (B, O, H, W), channels-last."""
    out_channels, channels, k, _ = weight.shape
    per_tap = weight.permute(2, 3, 0, 1).reshape(-1, channels)
    per_tap = F.pad(per_tap, (0, 0, 0, -len(per_tap) % ROW_MULTIPLE))
    projected = features.permute(0, 2, 3, 1) @ per_tap.t()  # (B, H, W, R): one matrix product
    sampled: Tensor = sample_taps(projected, offsets, out_channels, k)
    return sampled


@torch.library.custom_op("mnsa::sample_taps", mutates_args=())
def sample_taps(projected: Tensor, offsets: Tensor, out_channels: int, kernel_size: int) -> Tensor:
    """Projected (B, H, W, R), tap t at t*O .. t*O + O - 1, offsets (B, 2T, H, W) -> (B, O, H, W), channels-last."""
    from mnsa.model.ops.tap_kernels import sample_kernel

    projected, out = projected.contiguous(), _new_output(projected, out_channels)
    block = _block(out_channels)
    grid = _count(_pixels(projected), block["PIXELS"]), _count(out_channels, block["CHANNELS"])
    options = {"K": kernel_size, "O": out_channels, **block, **_options(projected)}
    with torch.cuda.device_of(projected):
        sample_kernel[grid](projected, offsets, out, *_sizes(projected), *offsets.stride(), **options)
    return out


@torch.library.custom_op("mnsa::sample_taps_backward", mutates_args=())
def sample_taps_backward(
    gradient: Tensor, projected: Tensor, offsets: Tensor, out_channels: int, kernel_size: int
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of projected and offsets from that of the output, (B, O, H, W)."""
    from mnsa.model.ops.tap_kernels import gather_kernel, gradients_kernel

    projected, by_pixel = projected.contiguous(), gradient.permute(0, 2, 3, 1).contiguous()
    collects = torch.are_deterministic_algorithms_enabled()
    sum_dtype = projected.dtype if collects else torch.promote_types(projected.dtype, torch.float32)
    grad_projected = torch.zeros_like(projected, dtype=sum_dtype)
    grad_offsets = torch.empty_like(offsets, memory_format=torch.contiguous_format)
    block = _block(out_channels)
    grid = _count(_pixels(projected), block["PIXELS"]), kernel_size**2
    given = *_sizes(projected), *offsets.stride()
    options = {"K": kernel_size, "O": out_channels, **block, **_options(projected)}
    with torch.cuda.device_of(projected):
        gradients_kernel[grid](
            by_pixel, projected, offsets, grad_projected, grad_offsets, *given, ATOMICS=not collects, **options
        )
        if collects:
            readers, starts = _sort_readers(projected, offsets, kernel_size)
            gather_kernel[(*grid, _count(out_channels, block["CHANNELS"]))](
                by_pixel, offsets, readers, starts, grad_projected, *given, **options
            )
    return grad_projected.to(projected.dtype), grad_offsets


@sample_taps.register_fake
def _(projected: Tensor, _offsets: Tensor, out_channels: int, _kernel_size: int) -> Tensor:
    return _new_output(projected, out_channels)


@sample_taps_backward.register_fake
def _(_gradient: Tensor, projected: Tensor, offsets: Tensor, *_: int) -> tuple[Tensor, Tensor]:
    layout = torch.contiguous_format
    return torch.empty_like(projected, memory_format=layout), torch.empty_like(offsets, memory_format=layout)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    projected, offsets, *ctx.sizes = inputs
    ctx.save_for_backward(projected, offsets)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return *sample_taps_backward(gradient, *ctx.saved_tensors, *ctx.sizes), None, None


sample_taps.register_autograd(_backward, setup_context=_save_inputs)


def _sort_readers(projected: Tensor, offsets: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Sort pairs of tap and output pixel by the cell that they read, for `tap_kernels.gather_kernel`."""
    from mnsa.model.ops.tap_kernels import cells_kernel

    batch, height, width, _ = projected.shape
    pixels, taps = _pixels(projected), kernel_size**2
    outside = taps * batch * (height + 1) * (width + 1)
    dtype = torch.int32 if outside < 2**31 else torch.int64
    cells = torch.empty(taps * pixels, dtype=dtype, device=offsets.device)
    options = {"K": kernel_size, "PIXELS": BLOCK_ELEMENTS, **_options(projected)}
    grid = _count(pixels, BLOCK_ELEMENTS), taps
    cells_kernel[grid](offsets, cells, pixels, height, width, *offsets.stride(), outside, **options)
    cells, readers = cells.sort(stable=True)
    return readers, torch.searchsorted(cells, torch.arange(outside + 1, dtype=dtype, device=cells.device))


def _new_output(projected: Tensor, out_channels: int) -> Tensor:
    return projected.new_empty(*projected.shape[:3], out_channels).permute(0, 3, 1, 2)


def _sizes(projected: Tensor) -> tuple[int, int, int, int]:
    """Return the number of pixels, height, width, and the length of a pixel's row."""
    _, height, width, row_length = projected.shape
    return _pixels(projected), height, width, row_length


def _pixels(projected: Tensor) -> int:
    return projected.shape[:3].numel()


def _block(out_channels: int) -> dict[str, int]:
    """Choose the pixels and the channels of a program, powers of two."""
    channels = min(MAX_CHANNELS, 1 << (out_channels - 1).bit_length())
    return {"PIXELS": BLOCK_ELEMENTS // channels, "CHANNELS": channels}


def _count(length: int, block: int) -> int:
    return -(-length // block)


def _options(projected: Tensor) -> dict[str, bool]:
    # Triton 3.9 warns unless multiply-adds are fused, or not, on purpose.
    return {"DOUBLE": projected.dtype == torch.float64, "enable_fp_fusion": True}
