"""Size and shape of labelled regions, all at once.

L regions, numbered 1 to L in `labels` (H, W); 0 belongs to none.
"""

import numpy as np

# Steps to neighbours in eight directions, as (down, right), and the share of all directions each stands for
_AXIS, _KNIGHT, _DIAGONAL = (np.arctan(0.5) / np.pi, 0.125, (0.25 * np.pi - np.arctan(0.5)) / np.pi)
_STEPS = {(0, 1): _AXIS, (1, 0): _AXIS, (1, 1): _DIAGONAL, (1, -1): _DIAGONAL}
_STEPS |= dict.fromkeys([(1, 2), (2, 1), (1, -2), (2, -1)], _KNIGHT)


def areas(labels: np.ndarray, count: int) -> np.ndarray:
    """Pixels of each region, (L,)."""
    return np.asarray(np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(np.float64))


def perimeters(labels: np.ndarray, count: int) -> np.ndarray:
    """Length of each region's boundary, holes' included, (L,), in pixels.

    Right to 3 % at any rotation for regions 40 px across, to 10 % for those of 6 px.
    Cauchy and Crofton: a boundary is as long as it is often crossed by lines, here in eight directions.
    """
    padded = np.pad(labels, 2)
    height, width = padded.shape
    total = np.zeros(count + 1)
    for (down, right), share in _STEPS.items():
        here = padded[: height - down, max(-right, 0) : width - max(right, 0)]
        there = padded[down:, max(right, 0) : width + min(right, 0)]
        changes = here != there
        crossings = sum(np.bincount(side[changes], minlength=count + 1) for side in (here, there))
        total += share / np.hypot(down, right) * crossings  # lines of this direction lie 1 / hypot apart
    return np.asarray(np.pi / 2.0 * total[1:])


def elongations(labels: np.ndarray, count: int) -> np.ndarray:
    """Long by short axis of the ellipse with each region's second moments, (L,); 1 for a disk or a square."""
    rows, columns = np.nonzero(labels)
    owner = labels[rows, columns]
    size = np.maximum(np.bincount(owner, minlength=count + 1), 1)
    sums = [np.bincount(owner, axis, minlength=count + 1) / size for axis in (rows, columns)]
    y, x = rows - sums[0][owner], columns - sums[1][owner]
    yy, xx, xy = (np.bincount(owner, product, minlength=count + 1) / size for product in (y * y, x * x, x * y))
    middle = 0.5 * (yy + xx) + 1.0 / 12.0  # a pixel is a square, not a point
    half_range = np.hypot(0.5 * (yy - xx), xy)
    return np.asarray(np.sqrt((middle + half_range) / (middle - half_range))[1:])
