"""What is measured, in pixels. A field's name ends in its unit: `_px`, `_px2`, `_px_per_px2`, or none.

A number that does not exist (the width of no vein, the share of no leaf) is NaN.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A distribution in five numbers: mean, standard deviation, and the 5th, 50th and 95th percentile."""

    mean: float
    sd: float
    p05: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class LeafTraits:
    """The leaf mask. Only the area counts every piece; the rest is of the largest piece's outer contour.

    length_px, width_px: sides of the smallest rectangle around it. circularity: 4 pi area / perimeter^2, 1 for a disk.
    solidity: share of its convex hull that it fills. piece_count: pieces of a hundredth of the leaf or more.
    """

    area_px2: float
    perimeter_px: float
    length_px: float
    width_px: float
    circularity: float
    solidity: float
    piece_count: int


@dataclass(frozen=True, slots=True)
class VeinTraits:
    """The vein network.

    ground: what it is related to: the `leaf`, or without one the veins' convex `hull` or the `image`. length_px: of all
    centrelines, to the veins' ends; density_px_per_px2: that per area of the ground. area_share: the veins' share of
    it. width_px: along the centrelines, every bit of length counting the same. branch_count: places where veins meet.
    free_ending_count: ends inside leaf and image. tortuosity: length of an edge by the distance of its ends, weighted
    by length. order1_length_px: of veins wider than half the widest (the 99th percentile of width); order 2: than a
    quarter; order 3: of the finer ones. distance_px: from the tissue in between to the edge of the nearest vein.
    """

    ground: str
    ground_area_px2: float
    length_px: float
    density_px_per_px2: float
    area_share: float
    width_px: Spread
    branch_count: int
    free_ending_count: int
    tortuosity: Spread
    order1_length_px: float
    order2_length_px: float
    order3_length_px: float
    distance_px: Spread


@dataclass(frozen=True, slots=True)
class AreoleTraits:
    """The areoles: regions of the ground that veins enclose.

    border_count: regions that touch the ground's border or the image's; they are counted here and left out elsewhere.
    area_px2: down to single pixels, where veins part at a sharp angle. circularity: 4 pi area / perimeter^2.
    elongation: long by short axis of the ellipse with the same second moments. Both shapes are means over areoles.
    """

    count: int
    border_count: int
    area_px2: Spread
    circularity: float
    elongation: float


@dataclass(frozen=True, slots=True)
class LesionTraits:
    """The lesions, each an 8-connected patch. area_share: their share of the leaf."""

    count: int
    area_share: float
    area_px2: Spread


@dataclass(frozen=True, slots=True)
class Traits:
    """All of one mask; None where no mask class has that role."""

    leaf: LeafTraits | None
    vein: VeinTraits | None
    areole: AreoleTraits | None
    lesion: LesionTraits | None


def spread(values: np.ndarray, weights: np.ndarray | None = None) -> Spread:
    """Describe values (N,), each counting as much as its weight (N,); all NaN where there is nothing to describe."""
    weights = np.ones(len(values)) if weights is None else weights
    values, weights = values[weights > 0.0], weights[weights > 0.0]
    if not len(values):
        return Spread(*(float("nan"),) * len(Spread._fields))
    mean = np.average(values, weights=weights)
    sd = np.sqrt(np.average((values - mean) ** 2, weights=weights))
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) - 0.5 * weights[order]
    percentiles = np.interp(np.array([0.05, 0.5, 0.95]) * weights.sum(), below, values[order])
    return Spread(float(mean), float(sd), *percentiles.tolist())
