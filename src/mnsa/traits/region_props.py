"""Area, perimeter and elongation of all labeled regions; and the convex hull of a mask.

L regions, numbered 1 to L in `labels` (H, W); 0 is the background.
"""

import numpy as np
from scipy.spatial import ConvexHull

# Steps to neighbors in eight directions, as (down, right), and their weights: fractions of all directions
_AXIS_WEIGHT, _KNIGHT_WEIGHT, _DIAGONAL_WEIGHT = (
    np.arctan(0.5) / np.pi,
    0.125,
    (0.25 * np.pi - np.arctan(0.5)) / np.pi,
)

_STEPS = {(0, 1): _AXIS_WEIGHT, (1, 0): _AXIS_WEIGHT, (1, 1): _DIAGONAL_WEIGHT, (1, -1): _DIAGONAL_WEIGHT}

_STEPS |= dict.fromkeys([(1, 2), (2, 1), (1, -2), (2, -1)], _KNIGHT_WEIGHT)


def areas(labels: np.ndarray, count: int) -> np.ndarray:
    """Compute the area of each region, (L,), in pixels."""
    return np.asarray(np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(np.float64))


def perimeters(labels: np.ndarray, count: int) -> np.ndarray:
    """Compute the length of each region's boundary with its holes, (L,), in pixels.

    Error at any rotation: 3 % for regions 40 px across, 10 % for 6 px.
    Cauchy-Crofton formula: the length is proportional to the number of crossings with lines, here in eight directions.
    """
    padded = np.pad(labels, 2)
    height, width = padded.shape
    total = np.zeros(count + 1)
    for (down, right), weight in _STEPS.items():
        here = padded[: height - down, max(-right, 0) : width - max(right, 0)]
        there = padded[down:, max(right, 0) : width + min(right, 0)]
        changes = here != there
        crossings = sum(np.bincount(side[changes], minlength=count + 1) for side in (here, there))
        total += weight / np.hypot(down, right) * crossings  # the distance of lines with this direction is 1 / hypot
    return np.asarray(np.pi / 2.0 * total[1:])


def elongations(labels: np.ndarray, count: int) -> np.ndarray:
    """Compute long axis / short axis of the ellipse with each region's second moments, (L,); 1 for a disk or square."""
    rows, columns = np.nonzero(labels)
    owner = labels[rows, columns]
    size = np.maximum(np.bincount(owner, minlength=count + 1), 1)
    sums = [np.bincount(owner, axis, minlength=count + 1) / size for axis in (rows, columns)]
    y, x = rows - sums[0][owner], columns - sums[1][owner]
    yy, xx, xy = (np.bincount(owner, product, minlength=count + 1) / size for product in (y * y, x * x, x * y))
    middle = 0.5 * (yy + xx) + 1.0 / 12.0  # a pixel is a square, not a point
    half_range = np.hypot(0.5 * (yy - xx), xy)
    return np.asarray(np.sqrt((middle + half_range) / (middle - half_range))[1:])


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """Find the pixels whose centers are in the convex hull of a mask; both bool (H, W).

    A pixel is the diamond between the middles of its sides, as in scikit-image's `convex_hull_image`, which is 40 times
    slower on a scan.
    """
    hull = np.zeros_like(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows):
        left, right = _hull_sides(mask[rows], rows)
        columns = np.arange(mask.shape[1])
        hull[rows[0] : rows[-1] + 1] = (columns >= left[:, None] - 1e-6) & (columns <= right[:, None] + 1e-6)
    return hull


def _hull_sides(pixels: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the left and right border of the hull in every row from the first to the last of `rows`."""
    first, last = pixels.argmax(axis=1), pixels.shape[1] - 1 - pixels[:, ::-1].argmax(axis=1)
    middles = [(rows, first - 0.5), (rows, last + 0.5)]
    middles += [(rows + half, column) for half in (-0.5, 0.5) for column in (first, last)]
    points = np.concatenate([np.stack(middle, axis=1) for middle in middles])
    corners = points[ConvexHull(points).vertices]  # (N, 2) row, column, in order along the hull
    corners = np.roll(corners, -corners[:, 0].argmin(), axis=0)
    turn = int(corners[:, 0].argmax())
    one_way, other_way = corners[: turn + 1], np.append(corners[turn:], corners[:1], axis=0)[::-1]
    between = np.arange(rows[0], rows[-1] + 1)
    sides = [np.interp(between, *way.T) for way in (one_way, other_way)]
    return np.minimum(*sides), np.maximum(*sides)
