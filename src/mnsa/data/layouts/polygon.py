"""Polygons as pixels: those are inside from whose centre a ray crosses the outline an odd number of times.

H, W image size in pixels. x runs right, y down, from the image's corner: pixel (row, column) covers
[column, column + 1) x [row, row + 1). A pixel whose centre is on the outline is inside where the outline is its left
border. A line that the outline walks both ways counts twice, thus not at all: so holes are tied to what is around them.
"""

from collections.abc import Iterator

import numpy as np

_MOST_CROSSINGS = 100_000_000  # of rows by edges: what an outline around every pixel of a large scan needs
_AT_ONCE = 1_000_000
_SLACK_PX = 1.0  # annotators' tools round past the border


class BrokenPolygonError(ValueError):
    """Coordinates that are no polygon in the image at hand; its text is read after the place."""


def paint_polygons(mask: np.ndarray, polygons: list[np.ndarray], value: int) -> None:
    """Set the pixels inside any of several polygons in a mask (H, W).

    polygons: (N, 2) each, x and y in pixels; the last corner joins the first. Corners up to a pixel outside the image
    are moved to its border. Raises: BrokenPolygonError.
    """
    height, width = mask.shape
    for corners in polygons:
        points = _checked(corners, height, width)
        left, top = np.floor(points.min(axis=0)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).astype(int)
        turns = np.zeros((bottom - top, right - left + 1), np.uint8)
        for row, column in _crossings(points):
            np.bitwise_xor.at(turns, (row - top, column - left), 1)
        inside = np.bitwise_xor.accumulate(turns[:, :-1], axis=1).astype(bool)
        mask[top:bottom, left:right][inside] = value


def _checked(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    if len(corners) < 3:
        raise BrokenPolygonError(f"has a polygon of {len(corners)} corners; expected 3 or more")
    if not np.isfinite(corners).all():
        raise BrokenPolygonError("has a polygon with coordinates that are no numbers (NaN or infinite)")
    limit = np.array((width, height))
    if (corners < -_SLACK_PX).any() or (corners > limit + _SLACK_PX).any():
        x, y = corners[((corners < -_SLACK_PX) | (corners > limit + _SLACK_PX)).any(axis=1)][0]
        raise BrokenPolygonError(f"has a polygon corner at ({x:g}, {y:g}), outside the image of {width} x {height} px")
    clipped: np.ndarray = np.clip(corners, 0, limit)
    return clipped


def _crossings(points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the pixels whose centre is the first right of an edge: rows and columns, about `_AT_ONCE` at a time."""
    ends = np.roll(points, -1, axis=0)
    down = points[:, 1] <= ends[:, 1]
    upper, lower = np.where(down[:, None], points, ends), np.where(down[:, None], ends, points)
    first = np.ceil(upper[:, 1] - 0.5).astype(np.int64)
    counts = np.ceil(lower[:, 1] - 0.5).astype(np.int64) - first
    upper, lower, first, counts = (values[counts > 0] for values in (upper, lower, first, counts))
    if counts.sum() > _MOST_CROSSINGS:
        raise BrokenPolygonError(f"has a polygon that crosses {counts.sum():,} pixel rows; at most {_MOST_CROSSINGS:,}")
    total = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + _AT_ONCE)))
        part = slice(begin, end)
        edge = np.repeat(np.arange(begin, min(end, len(counts))), counts[part])
        row = first[edge] + np.arange(len(edge)) - (total[edge] - counts[edge] - done)
        slope = (lower[edge, 0] - upper[edge, 0]) / (lower[edge, 1] - upper[edge, 1])
        x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope
        yield row, np.ceil(x - 0.5).astype(np.int64)
        begin = end
