"""Areoles: the regions that veins enclose."""

import numpy as np
from scipy.ndimage import binary_dilation, label

from mnsa.traits import regions
from mnsa.traits.records import AreoleTraits, spread


def measure_areoles(veins: np.ndarray, ground: np.ndarray) -> AreoleTraits:
    """Measure the 4-connected regions of `ground` between the veins, as veins are 8-connected. Both bool (H, W)."""
    labels, count = label(ground & ~veins)
    # a pixel beyond the image counts as outside, as one beyond the ground does
    at_border = binary_dilation(~ground, border_value=1) & ground
    is_open = np.zeros(count + 1, dtype=bool)
    is_open[labels[at_border]] = True
    closed = ~is_open[1:]
    area, perimeter = regions.areas(labels, count)[closed], regions.perimeters(labels, count)[closed]
    roundness = np.minimum(4.0 * np.pi * area / perimeter**2, 1.0)  # a region of few pixels would exceed the disk
    return AreoleTraits(
        count=int(closed.sum()),
        border_count=int(is_open[1:].sum()),
        area_px2=spread(area),
        circularity=spread(roundness).mean,
        elongation=spread(regions.elongations(labels, count)[closed]).mean,
    )
