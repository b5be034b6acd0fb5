"""COCO's run-length encoding (RLE) of a mask: run lengths down the columns, background first.

The runs are a list of numbers or compressed text. Compressed text has five bits per character (code 48 and up), the
lowest bits first. Bit 32 means that more characters follow; bit 16 of the last character is the sign. From the fourth
run on, the difference to the run two positions before is stored.
H, W image size in pixels.
Source: the mask functions of pycocotools, which define this format.
"""

from collections.abc import Sequence

import numpy as np

from mnsa.data.formats.polygons import Region

_FIRST, _MORE, _SIGN = 48, 32, 16

_MAX_CHARACTERS = 7  # characters of one number: 35 bits, more than any image has pixels


class InvalidRleError(ValueError):
    """Runs do not fit the mask's size. The message continues a sentence that starts with the location."""


def encode_region(region: Region, height: int, width: int) -> list[int]:
    """Compute the run lengths of a region in an image of (height, width)."""
    columns = np.pad(region.inside.T, ((0, 0), (1, 1))).astype(np.int8)
    column, row = np.nonzero(np.diff(columns, axis=1))  # begin, end, begin, end, ... down each column
    edges = (column + region.left) * height + row + region.top
    begins, ends = edges[::2], edges[1::2]
    separate = begins[1:] != ends[:-1]  # a run that reaches the bottom continues at the top of the next column
    begins, ends = begins[np.r_[True, separate]], ends[np.r_[separate, True]]
    changes = np.column_stack((begins, ends)).ravel()
    runs = np.diff(changes, prepend=0).tolist()
    rest = int(height * width - changes[-1])
    return [*runs, rest] if rest else runs


def paint_rle(mask: np.ndarray, runs: Sequence[int], value: int) -> None:
    """Set the pixels of runs in a mask (H, W). Raises: InvalidRleError unless they add up to H * W."""
    if len(runs) > mask.size + 1:
        raise InvalidRleError(f"has {len(runs):,} runs; an image of {mask.size:,} pixels has at most {mask.size + 1:,}")
    if not all(isinstance(run, int) and not isinstance(run, bool) and 0 <= run <= mask.size for run in runs):
        raise InvalidRleError("has runs that are no pixel counts; expected whole numbers from 0 to the image's pixels")
    if sum(runs) != mask.size:
        raise InvalidRleError(f"has runs of {sum(runs):,} pixels in all; the image has {mask.size:,}")
    ends, lengths = np.cumsum(runs, dtype=np.int64)[1::2], np.array(runs[1::2], np.int64)
    index = np.arange(lengths.sum()) + np.repeat(ends - np.cumsum(lengths), lengths)  # index down the columns
    mask[index % len(mask), index // len(mask)] = value


def compress_rle(runs: Sequence[int]) -> str:
    """Convert runs to COCO's compressed text."""
    characters = []
    for index, run in enumerate(runs):
        left = run - runs[index - 2] if index > 2 else run
        while True:
            bits, left = left & 31, left >> 5
            ends = left == (-1 if bits & _SIGN else 0)
            characters.append(chr(_FIRST + bits + (0 if ends else _MORE)))
            if ends:
                break
    return "".join(characters)


def parse_compressed_rle(text: str, pixels: int) -> list[int]:
    """Parse COCO's compressed text. pixels: of the image. Raises: InvalidRleError."""
    runs: list[int] = []
    value = length = 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code < 2 * _MORE or length == _MAX_CHARACTERS:
            raise InvalidRleError(f"has compressed runs that can't be read (at {character!r})")
        value |= (code & 31) << 5 * length
        length += 1
        if code & _MORE:
            continue
        value -= (1 << 5 * length) if code & _SIGN else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if not 0 <= runs[-1] <= pixels:
            raise InvalidRleError(f"has a compressed run of {runs[-1]:,} pixels; the image has {pixels:,}")
        value = length = 0
    if length:
        raise InvalidRleError("has compressed runs that end too early")
    return runs
