"""COCO's run-length encoding: pixels counted column by column, background first; a list of numbers, or compressed text.

H, W image size in pixels. Compressed: five bits to a character (code 48 and up), the lowest first; 32 marks that more
follow; the last one's 16 is the sign; from the fourth run on, the difference to the run two before stands in its place.

Source: the mask functions of COCO's own tools, which define this text.
"""

from collections.abc import Sequence

import numpy as np

from mnsa.data.formats.polygons import Region

_FIRST, _MORE, _SIGN = 48, 32, 16

_MAX_CHARACTERS = 7  # characters of one number: 35 bits, more than any image has pixels


class InvalidRleError(ValueError):
    """Runs that describe no mask of the size at hand; its text is read after the place."""


def encode_region(region: Region, height: int, width: int) -> list[int]:
    """Count a region's runs in an image of (height, width)."""
    columns = np.pad(region.inside.T, ((0, 0), (1, 1))).astype(np.int8)
    column, row = np.nonzero(np.diff(columns, axis=1))  # begin, end, begin, end, ... down each column
    edges = (column + region.left) * height + row + region.top
    begins, ends = edges[::2], edges[1::2]
    apart = begins[1:] != ends[:-1]  # a run that reaches the bottom goes on at the next column's top
    begins, ends = begins[np.r_[True, apart]], ends[np.r_[apart, True]]
    turns = np.column_stack((begins, ends)).ravel()
    runs = np.diff(turns, prepend=0).tolist()
    rest = int(height * width - turns[-1])
    return [*runs, rest] if rest else runs


def paint_rle(mask: np.ndarray, runs: Sequence[int], value: int) -> None:
    """Set the pixels of runs in a mask (H, W). Raises: BrokenRunsError unless they add up to H * W."""
    if len(runs) > mask.size + 1:
        raise InvalidRleError(f"has {len(runs):,} runs; an image of {mask.size:,} pixels has at most one more")
    if not all(isinstance(run, int) and not isinstance(run, bool) and 0 <= run <= mask.size for run in runs):
        raise InvalidRleError("has runs that are no pixel counts; expected whole numbers from 0 to the image's pixels")
    if sum(runs) != mask.size:
        raise InvalidRleError(f"has runs of {sum(runs):,} pixels in all; the image has {mask.size:,}")
    ends, lengths = np.cumsum(runs, dtype=np.int64)[1::2], np.array(runs[1::2], np.int64)
    place = np.arange(lengths.sum()) + np.repeat(ends - np.cumsum(lengths), lengths)  # counted down the columns
    mask[place % len(mask), place // len(mask)] = value


def compress_rle(runs: Sequence[int]) -> str:
    """Write runs as COCO's text."""
    letters = []
    for place, run in enumerate(runs):
        left = run - runs[place - 2] if place > 2 else run
        while True:
            five, left = left & 31, left >> 5
            ends = left == (-1 if five & _SIGN else 0)
            letters.append(chr(_FIRST + five + (0 if ends else _MORE)))
            if ends:
                break
    return "".join(letters)


def parse_compressed_rle(text: str, pixels: int) -> list[int]:
    """Read COCO's text for an image of so many pixels. Raises: BrokenRunsError for what is no such text."""
    runs: list[int] = []
    value = length = 0
    for letter in text:
        code = ord(letter) - _FIRST
        if not 0 <= code < 2 * _MORE or length == _MAX_CHARACTERS:
            raise InvalidRleError(f"has packed runs that can't be read (at {letter!r})")
        value |= (code & 31) << 5 * length
        length += 1
        if code & _MORE:
            continue
        value -= (1 << 5 * length) if code & _SIGN else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if not 0 <= runs[-1] <= pixels:
            raise InvalidRleError(f"has a packed run of {runs[-1]:,} pixels; the image has {pixels:,}")
        value = length = 0
    if length:
        raise InvalidRleError("has packed runs that end too early")
    return runs
