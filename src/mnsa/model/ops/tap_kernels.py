"""Triton kernels that sample the projected taps of a deformable convolution. Importing this file imports Triton.

`mnsa.model.ops.tap_sampling` calls them. A program has a block of pixels and a block of channels; the channels of a
pixel and tap lie side by side in memory. Sums are float32, or float64 for float64 maps.

projected (B, H, W, R): tap t of a pixel is at t*O .. t*O + O - 1, R >= T*O. offsets (B, 2T, H, W), any strides.
N = B*H*W pixels; T = K*K taps; O output channels; i, j in 0, 1: the lower or upper of the corners around a position.
"""

import triton
import triton.language as tl


@triton.jit
def positions(offsets, n, tap, inside, height, width, s_b, s_c, s_y, s_x, K: tl.constexpr, DOUBLE: tl.constexpr):
    """Compute where output pixels n (P,) read a tap: y, x (P,) in pixels, and the index of the image's first pixel."""
    REAL: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    size = height * width
    image = n // size
    row, column = n % size // width, n % width
    address = (
        offsets + image.to(tl.int64) * s_b + row.to(tl.int64) * s_y + column * s_x + tl.cast(2 * tap, tl.int64) * s_c
    )
    y = row + (tap // K - (K - 1) / 2) + tl.load(address, mask=inside, other=0).to(REAL)
    x = column + (tap % K - (K - 1) / 2) + tl.load(address + s_c, mask=inside, other=0).to(REAL)
    return y, x, image * size


@triton.jit
def corner(y, x, first, inside, height, width, i: tl.constexpr, j: tl.constexpr):
    """Find a corner of positions y, x (P,): pixel index, whether it is in the map, and its weights along y and x."""
    low_y, low_x = tl.floor(y), tl.floor(x)
    # Compared as floats: far positions do not fit an integer. NaN is in no map, and stays in the weights.
    in_y = (low_y >= -i) & (low_y < height - i)
    in_x = (low_x >= -j) & (low_x < width - j)
    valid = inside & in_y & in_x
    row, column = tl.where(valid, low_y, 0).to(tl.int32) + i, tl.where(valid, low_x, 0).to(tl.int32) + j
    weight_y = y - low_y if i else 1 - (y - low_y)
    weight_x = x - low_x if j else 1 - (x - low_x)
    return first + row * width + column, valid, weight_y, weight_x


@triton.jit
def sample_kernel(
    projected, offsets, out, pixels, height, width, row_length, s_b, s_c, s_y, s_x,
    K: tl.constexpr, O: tl.constexpr, DOUBLE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write out (N, O): the sum of the taps, each sampled bilinearly. Grid: pixel blocks, channel blocks."""
    REAL: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    n = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    o = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside, channel = n < pixels, (o < O)[None, :]
    total = tl.zeros([PIXELS, CHANNELS], REAL)
    for tap in range(K * K):
        y, x, first = positions(offsets, n, tap, inside, height, width, s_b, s_c, s_y, s_x, K, DOUBLE)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                index, valid, weight_y, weight_x = corner(y, x, first, inside, height, width, i, j)
                address = projected + index.to(tl.int64)[:, None] * row_length + (tap * O + o)[None, :]
                values = tl.load(address, mask=valid[:, None] & channel, other=0)
                total += (weight_y * weight_x)[:, None] * values.to(REAL)
    address = out + n.to(tl.int64)[:, None] * O + o[None, :]
    tl.store(address, total.to(out.dtype.element_ty), mask=inside[:, None] & channel)


@triton.jit
def gradients_kernel(
    gradient, projected, offsets, grad_projected, grad_offsets, pixels, height, width, row_length,
    s_b, s_c, s_y, s_x,
    K: tl.constexpr, O: tl.constexpr, DOUBLE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
    ATOMICS: tl.constexpr,
):  # fmt: skip
    """Write grad_offsets (B, 2T, H, W), contiguous. With ATOMICS add to grad_projected (N, R). Grid: blocks, taps.

    gradient: of the output, (N, O).
    """
    REAL: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    n, tap = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS), tl.program_id(1)
    inside, size = n < pixels, height * width
    y, x, first = positions(offsets, n, tap, inside, height, width, s_b, s_c, s_y, s_x, K, DOUBLE)
    source = gradient + n.to(tl.int64)[:, None] * O
    to_y, to_x = tl.zeros([PIXELS, CHANNELS], REAL), tl.zeros([PIXELS, CHANNELS], REAL)
    for start in range(0, O, CHANNELS):
        o = start + tl.arange(0, CHANNELS)
        channel = (o < O)[None, :]
        pull = tl.load(source + o[None, :], mask=inside[:, None] & channel, other=0).to(REAL)
        for i in tl.static_range(2):
            for j in tl.static_range(2):
                index, valid, weight_y, weight_x = corner(y, x, first, inside, height, width, i, j)
                place, mask = (
                    index.to(tl.int64)[:, None] * row_length + (tap * O + o)[None, :],
                    valid[:, None] & channel,
                )
                product = pull * tl.load(projected + place, mask=mask, other=0).to(REAL)
                to_y += (weight_x if i else -weight_x)[:, None] * product
                to_x += (weight_y if j else -weight_y)[:, None] * product
                if ATOMICS:
                    tl.atomic_add(
                        grad_projected + place, (weight_y * weight_x)[:, None] * pull, mask=mask, sem="relaxed"
                    )
    address = grad_offsets + ((n // size).to(tl.int64) * (2 * K * K) + 2 * tap) * size + n % size
    tl.store(address, tl.sum(to_y, axis=1).to(grad_offsets.dtype.element_ty), mask=inside)
    tl.store(address + size, tl.sum(to_x, axis=1).to(grad_offsets.dtype.element_ty), mask=inside)


@triton.jit
def cells_kernel(
    offsets, cells, pixels, height, width, s_b, s_c, s_y, s_x, outside,
    K: tl.constexpr, DOUBLE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Write cells (T, N): the number of the cell that a pixel reads by a tap. Grid: blocks, taps.

    A cell is the square between four corners. A map has (H + 1)(W + 1) of them that touch it; `outside`: none of them.
    """
    n, tap = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS), tl.program_id(1)
    inside = n < pixels
    y, x, _ = positions(offsets, n, tap, inside, height, width, s_b, s_c, s_y, s_x, K, DOUBLE)
    low_y, low_x = tl.floor(y), tl.floor(x)
    touches = (low_y >= -1) & (low_y < height) & (low_x >= -1) & (low_x < width)
    row, column = tl.where(touches, low_y, 0).to(tl.int64) + 1, tl.where(touches, low_x, 0).to(tl.int64) + 1
    size = height * width
    cell = ((tap * (pixels // size) + n // size) * (height + 1) + row) * (width + 1) + column
    address = cells + tap.to(tl.int64) * pixels + n
    tl.store(address, tl.where(touches, cell, outside).to(cells.dtype.element_ty), mask=inside)


@triton.jit
def gather_kernel(
    gradient, offsets, readers, starts, grad_projected, pixels, height, width, row_length,
    s_b, s_c, s_y, s_x,
    K: tl.constexpr, O: tl.constexpr, DOUBLE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write grad_projected (N, R) without atomics: each pixel collects from who reads it. Grid: blocks, taps, channels.

    readers (T * N,): tap * N + pixel, sorted by cell; those of cell c are at starts[c] .. starts[c + 1] - 1.
    """
    REAL: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    n, tap = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS), tl.program_id(1)
    o = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    inside, channel, size = n < pixels, (o < O)[None, :], height * width
    row, column = (n % size // width).to(tl.int64), n % width
    cells = (tap * (pixels // size) + n // size).to(tl.int64) * (height + 1)
    total = tl.zeros([PIXELS, CHANNELS], REAL)
    for i in tl.static_range(2):
        for j in tl.static_range(2):
            cell = (cells + row + 1 - i) * (width + 1) + column + 1 - j
            start = tl.load(starts + cell, mask=inside, other=0)
            count = tl.load(starts + cell + 1, mask=inside, other=0) - start
            for turn in range(tl.max(count, axis=0)):
                reads = turn < count
                reader = tl.load(readers + start + turn, mask=reads, other=0) - tap.to(tl.int64) * pixels
                reader = tl.where(reads, reader, 0).to(tl.int32)
                y, x, _ = positions(offsets, reader, tap, reads, height, width, s_b, s_c, s_y, s_x, K, DOUBLE)
                low_y, low_x = tl.floor(y), tl.floor(x)
                weight_y = y - low_y if i else 1 - (y - low_y)
                weight_x = x - low_x if j else 1 - (x - low_x)
                source = gradient + reader.to(tl.int64)[:, None] * O
                pull = tl.load(source + o[None, :], mask=reads[:, None] & channel, other=0)
                total += (weight_y * weight_x)[:, None] * pull.to(REAL)
    address = grad_projected + n.to(tl.int64)[:, None] * row_length + (tap * O + o)[None, :]
    tl.store(address, total.to(grad_projected.dtype.element_ty), mask=inside[:, None] & channel)
