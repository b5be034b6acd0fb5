"""Masks as polygons, and polygons as masks. A region's outline follows its pixels' edges: it gives back these pixels.

A pixel is inside when a ray from its center crosses the outline an odd number of times. x runs right, y down, from the
image's corner: pixel (row, column) covers [column, column + 1) x [row, row + 1). A pixel whose center is on the outline
is inside where the outline is its left border. Holes are tied to the ring around them by a level line through the
region; the outline follows it there and back, so it counts twice, thus not at all.
H, W image size in pixels.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Region(NamedTuple):
    """One region. value: its pixels' class index; top, left: where its box begins; inside: bool (h, w), in its box."""

    value: int
    top: int
    left: int
    inside: np.ndarray


def find_regions(mask: np.ndarray) -> Iterator[Region]:
    """Take class indices (H, W) apart into regions of pixels that share an edge, class by class; 0 is no region."""
    for value in (int(value) for value in np.unique(mask) if value):
        numbered, _ = ndimage.label(mask == value)
        for number, box in enumerate(ndimage.find_objects(numbered), 1):
            yield Region(value, box[0].start, box[1].start, numbered[box] == number)


_Pair = tuple[int, int]  # x, y: a corner, or a way of one pixel

_Ring = list[_Pair]  # corners, the leftmost first

_Ties = Mapping[_Pair, list[_Pair]]  # (ring, place of the edge in it) -> (y, hole)


_RIGHT_TURN: Mapping[_Pair, _Pair] = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}


def trace_outline(region: Region) -> np.ndarray:
    """Walk around a region of pixels that share edges: whole numbers (N, 2), x and y in the image."""
    rings = sorted(_trace_rings(region.inside))  # nothing lies further left than the outer ring, so it comes first
    return np.add(_join_rings(rings, _tie_holes(rings)), (region.left, region.top))


def _trace_rings(inside: np.ndarray) -> Iterator[_Ring]:
    """Find the rings between inside and outside; whoever walks one has the inside on the right."""
    leaving = _leaving_edges(np.pad(inside, 1))
    unwalked = {(corner, way) for corner, ways in leaving.items() for way in ways}
    while unwalked:
        here, way = next(iter(unwalked))
        ring = []
        while (here, way) in unwalked:
            unwalked.remove((here, way))
            here = (here[0] + way[0], here[1] + way[1])
            # where two pixels meet at a corner alone, the walk stays with its own
            turned = _RIGHT_TURN[way] if _RIGHT_TURN[way] in leaving[here] else leaving[here][0]
            if turned != way:
                ring.append(here)
            way = turned
        least = ring.index(min(ring))
        yield ring[least:] + ring[:least]


def _leaving_edges(padded: np.ndarray) -> Mapping[_Pair, list[_Pair]]:
    """List the ways that lead away from each corner, between a pixel inside (on the right) and one outside."""
    leaving: defaultdict[_Pair, list[_Pair]] = defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # nothing above: along the top, to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    for neighbor, (right, below), way in sides:
        for y, x in np.argwhere(padded[1:-1, 1:-1] & ~neighbor).tolist():
            leaving[x + right, y + below].append(way)
    return leaving


def _tie_holes(rings: Sequence[_Ring]) -> _Ties:
    """Tie each hole, at its leftmost corner, to the first edge on the left; its ring begins further left."""
    upright: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)  # pixel row -> (x, ring, place)
    for number, ring in enumerate(rings):
        for place, ((x, y), (_, to_y)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
            for row in range(min(y, to_y), max(y, to_y)):
                upright[row].append((x, number, place))
    ties: defaultdict[_Pair, list[_Pair]] = defaultdict(list)
    for hole, ((x, y), *_) in enumerate(rings[1:], 1):
        _, number, place = max((edge for edge in upright[y] if edge[0] < x), key=itemgetter(0))
        ties[number, place].append((y, hole))
    return ties


def _join_rings(rings: Sequence[_Ring], ties: _Ties) -> list[_Pair]:
    """Walk the first ring, and each hole on the way when its tie is met. No recursion: a hole may tie thousands."""
    corners: list[_Pair] = []
    under_way = [_ring_corners_and_holes(rings, ties, 0)]
    while under_way:
        station = next(under_way[-1], None)
        if station is None:
            under_way.pop()
        elif isinstance(station, int):
            under_way.append(_ring_corners_and_holes(rings, ties, station))
        else:
            corners.append(station)
    return corners


def _ring_corners_and_holes(rings: Sequence[_Ring], ties: _Ties, number: int) -> Iterator[_Pair | int]:
    """Pass a ring's corners, and the holes that are tied to it, as numbers."""
    ring = rings[number]
    for place, ((x, y), (_, to_y)) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
        yield x, y
        for at_y, hole in sorted(ties.get((number, place), ()), reverse=to_y < y):
            yield x, at_y
            yield hole
            yield x, at_y
    if number:
        yield ring[0]


_MAX_CROSSINGS = 100_000_000  # of rows by edges: what an outline around every pixel of a large scan needs

_CROSSINGS_PER_CHUNK = 1_000_000

_TOLERANCE_PX = 1.0  # annotators' tools round past the border


class InvalidPolygonError(ValueError):
    """Coordinates that are no polygon in the image at hand; its text is read after the place."""


def paint_polygons(mask: np.ndarray, polygons: list[np.ndarray], value: int) -> None:
    """Set the pixels inside any of several polygons in a mask (H, W).

    polygons: (N, 2) each, x and y in pixels; the last corner joins the first. Corners up to a pixel outside the image
    are moved to its border. Raises: BrokenPolygonError.
    """
    height, width = mask.shape
    for corners in polygons:
        points = _validate_corners(corners, height, width)
        left, top = np.floor(points.min(axis=0)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).astype(int)
        turns = np.zeros((bottom - top, right - left + 1), np.uint8)
        for row, column in _crossings(points):
            np.bitwise_xor.at(turns, (row - top, column - left), 1)
        inside = np.bitwise_xor.accumulate(turns[:, :-1], axis=1).astype(bool)
        mask[top:bottom, left:right][inside] = value


def _validate_corners(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    if len(corners) < 3:
        raise InvalidPolygonError(f"has a polygon of {len(corners)} corners; expected 3 or more")
    if not np.isfinite(corners).all():
        raise InvalidPolygonError("has a polygon with coordinates that are no numbers (NaN or infinite)")
    limit = np.array((width, height))
    if (corners < -_TOLERANCE_PX).any() or (corners > limit + _TOLERANCE_PX).any():
        x, y = corners[((corners < -_TOLERANCE_PX) | (corners > limit + _TOLERANCE_PX)).any(axis=1)][0]
        raise InvalidPolygonError(f"has a polygon corner at ({x:g}, {y:g}), outside the image of {width} x {height} px")
    clipped: np.ndarray = np.clip(corners, 0, limit)
    return clipped


def _crossings(points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the pixels whose center is the first right of an edge: rows and columns, about `_AT_ONCE` at a time."""
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
