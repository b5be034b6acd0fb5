"""Masks as other tools store them: COCO's run-length encoding (RLE), and polygons. Nothing is lost either way.

RLE: run lengths down the columns, background first. The runs are a list of numbers or compressed text. Compressed text
has five bits per character (code 48 and up), the lowest bits first. Bit 32 means that more characters follow; bit 16 of
the last character is the sign. From the fourth run on, the difference to the run two positions before is stored.
Source: the mask functions of pycocotools, which define this format.
Polygons: the outline of a region follows the pixels' edges. x runs right and y runs down from the image's corner; pixel
(row, column) covers [column, column + 1) x [row, row + 1). A pixel is inside when a ray from its center crosses the
outline an odd number of times. A pixel whose center is on the outline is inside if the outline is its left border.
Holes: a region becomes one polygon. A horizontal line, a bridge, connects each hole to the ring around it. The outline
follows the bridge in both directions, so the bridge changes no pixel.
H, W image size in pixels.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from scipy import ndimage

_FIRST, _MORE, _SIGN = 48, 32, 16
_MAX_CHARACTERS = 7  # characters of one number: 35 bits, more than any image has pixels
_Pair = tuple[int, int]  # x, y: a corner, or a step of one pixel
_Ring = list[_Pair]  # corners, the leftmost first
_Bridges = Mapping[_Pair, list[_Pair]]  # (ring, index of the edge in it) -> (y, hole)
_RIGHT_TURN: Mapping[_Pair, _Pair] = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}
_MAX_CROSSINGS = 100_000_000  # of pixel rows and edges: enough for an outline around every pixel of a large scan
_CROSSINGS_PER_CHUNK = 1_000_000
_TOLERANCE_PX = 1.0  # annotation tools round coordinates to values outside of the image


class InvalidRleError(ValueError):
    """Runs do not fit the mask's size. The message continues a sentence that starts with the location."""


class Region(NamedTuple):
    """A connected region.

    value: class index. top, left: corner of the bounding box. inside: bool (h, w), in the box.
    """

    value: int
    top: int
    left: int
    inside: np.ndarray


def find_regions(mask: np.ndarray) -> Iterator[Region]:
    """Find the 4-connected regions of class indices (H, W), class by class; 0 is the background."""
    for value in (int(value) for value in np.unique(mask) if value):
        numbered, _ = ndimage.label(mask == value)
        for number, box in enumerate(ndimage.find_objects(numbered), 1):
            yield Region(value, box[0].start, box[1].start, numbered[box] == number)


class InvalidPolygonError(ValueError):
    """Coordinates are not a polygon in the image. The message continues a sentence that starts with the location."""


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


def paint_rle(mask: np.ndarray, runs: Sequence[int], value: int) -> np.ndarray:
    """Set the pixels of runs in a mask, uint8 (H, W), and count what they had before: (256,).

    Raises: InvalidRleError unless the runs add up to H * W.
    """
    if len(runs) > mask.size + 1:
        raise InvalidRleError(f"has {len(runs):,} runs; {mask.size:,} pixels have at most {mask.size + 1:,}")
    if not all(isinstance(run, int) and not isinstance(run, bool) and 0 <= run <= mask.size for run in runs):
        raise InvalidRleError("has runs that are no pixel counts; expected whole numbers from 0 to the image's pixels")
    if sum(runs) != mask.size:
        raise InvalidRleError(f"has runs of {sum(runs):,} pixels in all; expected {mask.size:,}")
    ends, lengths = np.cumsum(runs, dtype=np.int64)[1::2], np.array(runs[1::2], np.int64)
    index = np.arange(lengths.sum()) + np.repeat(ends - np.cumsum(lengths), lengths)  # index down the columns
    pixels = index % len(mask), index // len(mask)
    before = np.bincount(mask[pixels], minlength=256)
    mask[pixels] = value
    return before


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


def trace_outline(region: Region) -> np.ndarray:
    """Trace the outline of a region: integers (N, 2), x and y in the image."""
    rings = sorted(_trace_rings(region.inside))  # the outer ring starts furthest left, so it comes first
    return np.add(_join_rings(rings, _bridge_holes(rings)), (region.left, region.top))


def paint_polygons(mask: np.ndarray, polygons: list[np.ndarray], value: int) -> np.ndarray:
    """Set the pixels inside any of several polygons in a mask, uint8 (H, W), and count what they had before: (256,).

    polygons: (N, 2) each, x and y in pixels; the last corner joins the first. Corners up to a pixel outside the image
    are moved to its border. Raises: InvalidPolygonError.
    """
    height, width = mask.shape
    before = np.zeros(256, np.int64)
    for corners in polygons:
        points = _validate_corners(corners, height, width)
        left, top = np.floor(points.min(axis=0)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).astype(int)
        crossed = np.zeros((bottom - top, right - left + 1), np.uint8)
        for row, column in _crossings(points):
            np.bitwise_xor.at(crossed, (row - top, column - left), 1)
        inside = np.bitwise_xor.accumulate(crossed[:, :-1], axis=1).astype(bool)
        box = mask[top:bottom, left:right]
        before += np.bincount(box[inside], minlength=256)
        box[inside] = value
    return before


def _trace_rings(inside: np.ndarray) -> Iterator[_Ring]:
    """Find the rings between inside and outside, with the inside on the right of each step."""
    leaving = _leaving_edges(np.pad(inside, 1))
    remaining = {(corner, way) for corner, ways in leaving.items() for way in ways}
    while remaining:
        here, way = next(iter(remaining))
        ring = []
        while (here, way) in remaining:
            remaining.remove((here, way))
            here = (here[0] + way[0], here[1] + way[1])
            # where two pixels touch only at a corner, turn right to stay at the same pixel
            turned = _RIGHT_TURN[way] if _RIGHT_TURN[way] in leaving[here] else leaving[here][0]
            if turned != way:
                ring.append(here)
            way = turned
        least = ring.index(min(ring))
        yield ring[least:] + ring[:least]


def _leaving_edges(padded: np.ndarray) -> Mapping[_Pair, list[_Pair]]:
    """List the steps that leave each corner, with a pixel inside on the right and one outside on the left."""
    leaving: defaultdict[_Pair, list[_Pair]] = defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # outside above: step right along the top edge
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbor, (right, below), way in sides:
        for y, x in np.argwhere(padded[1:-1, 1:-1] & ~neighbor).tolist():
            leaving[x + right, y + below].append(way)
    return leaving


def _bridge_holes(rings: Sequence[_Ring]) -> _Bridges:
    """Connect the leftmost corner of each hole to the nearest edge on its left, which belongs to another ring."""
    upright: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)  # pixel row -> (x, ring, place)
    for number, ring in enumerate(rings):
        for place, ((x, y), (_, to_y)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
            for row in range(min(y, to_y), max(y, to_y)):
                upright[row].append((x, number, place))
    bridges: defaultdict[_Pair, list[_Pair]] = defaultdict(list)
    for hole, ((x, y), *_) in enumerate(rings[1:], 1):
        _, number, place = max((edge for edge in upright[y] if edge[0] < x), key=itemgetter(0))
        bridges[number, place].append((y, hole))
    return bridges


def _join_rings(rings: Sequence[_Ring], bridges: _Bridges) -> list[_Pair]:
    """Join all rings to one list of corners: each hole is inserted at its bridge.

    No recursion: there may be thousands.
    """
    corners: list[_Pair] = []
    stack = [_ring_corners_and_holes(rings, bridges, 0)]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, int):
            stack.append(_ring_corners_and_holes(rings, bridges, item))
        else:
            corners.append(item)
    return corners


def _ring_corners_and_holes(rings: Sequence[_Ring], bridges: _Bridges, number: int) -> Iterator[_Pair | int]:
    """Yield a ring's corners (x, y), and the index of each hole where its bridge starts."""
    ring = rings[number]
    for place, ((x, y), (_, to_y)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
        yield x, y
        for at_y, hole in sorted(bridges.get((number, place), ()), reverse=to_y < y):
            yield x, at_y
            yield hole
            yield x, at_y
    if number:
        yield ring[0]


def _validate_corners(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    if len(corners) < 3:
        raise InvalidPolygonError(f"has a polygon of {len(corners)} corners; expected 3 or more")
    if not np.isfinite(corners).all():
        raise InvalidPolygonError("has a polygon with coordinates that are NaN or infinite")
    limit = np.array((width, height))
    if (corners < -_TOLERANCE_PX).any() or (corners > limit + _TOLERANCE_PX).any():
        x, y = corners[((corners < -_TOLERANCE_PX) | (corners > limit + _TOLERANCE_PX)).any(axis=1)][0]
        raise InvalidPolygonError(f"has a polygon corner at ({x:g}, {y:g}), outside the image of {width} x {height} px")
    clipped: np.ndarray = np.clip(corners, 0, limit)
    return clipped


def _crossings(points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the first pixels right of an edge: rows and columns, about `_CROSSINGS_PER_CHUNK` at a time."""
    ends = np.roll(points, -1, axis=0)
    down = points[:, 1] <= ends[:, 1]
    upper, lower = np.where(down[:, None], points, ends), np.where(down[:, None], ends, points)
    first = np.ceil(upper[:, 1] - 0.5).astype(np.int64)
    counts = np.ceil(lower[:, 1] - 0.5).astype(np.int64) - first
    upper, lower, first, counts = (values[counts > 0] for values in (upper, lower, first, counts))
    if counts.sum() > _MAX_CROSSINGS:
        raise InvalidPolygonError(f"has a polygon that crosses {counts.sum():,} pixel rows; at most {_MAX_CROSSINGS:,}")
    total = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + _CROSSINGS_PER_CHUNK)))
        part = slice(begin, end)
        edge = np.repeat(np.arange(begin, min(end, len(counts))), counts[part])
        row = first[edge] + np.arange(len(edge)) - (total[edge] - counts[edge] - done)
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope
        yield row, np.ceil(x - 0.5).astype(np.int64)
        begin = end
