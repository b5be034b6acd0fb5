"""Polygons as pixels, by one rule: a pixel is inside when a ray from its centre crosses the outline an odd number of times.

H, W image size in pixels. x runs right, y down, from the image's corner: pixel (row, column) covers [column, column + 1) x
[row, row + 1). An outline through a centre takes the pixel to its right and leaves the one to its left. A line that the outline
walks both ways counts twice, thus not at all: that is how holes are tied to what is around them.
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

    polygons: (N, 2) each, x and y in pixels; the last corner joins the first. Corners up to a pixel outside the image are moved
    to its border. Raises: BrokenPolygonError.
    """
    height, width = mask.shape
    for corners in polygons:
        points = _checked(corners, height, width)
        top = int(np.floor(points[:, 1].min()))
        bottom = int(np.ceil(points[:, 1].max()))
        turns = np.zeros((max(bottom - top, 1), width + 1), np.uint8)
        for row, column in _crossings(points):
            np.bitwise_xor.at(turns, (row - top, np.clip(column, 0, width)), 1)
        inside = np.bitwise_xor.accumulate(turns[:, :width], axis=1).astype(bool)
        mask[top : top + len(turns)][inside[: height - top]] = value


def _checked(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    if len(corners) < 3:
        raise BrokenPolygonError(f"has a polygon of {len(corners)} corners; expected 3 or more")
    if not np.isfinite(corners).all():
        raise BrokenPolygonError("has a polygon with coordinates that are no numbers (NaN or infinite)")
    limit = np.array((width, height))
    if (corners < -_SLACK_PX).any() or (corners > limit + _SLACK_PX).any():
        x, y = corners[((corners < -_SLACK_PX) | (corners > limit + _SLACK_PX)).any(axis=1)][0]
        raise BrokenPolygonError(f"has a polygon corner at ({x:g}, {y:g}), outside the image of {width} x {height} px")
    return np.clip(corners, 0, limit)


def _crossings(points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the pixels whose centre is the first right of an edge: rows and columns, at most `_AT_ONCE` of them a time."""
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
