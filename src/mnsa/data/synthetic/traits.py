"""What is true of a drawn leaf, to compare measurements with."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import label

from mnsa.data.synthetic.network import Pieces


@dataclass(frozen=True, slots=True)
class Traits:
    """Lengths and areas in pixels of the drawn image.

    leaf_area_px2: area of the outline polygon, without the petiole. vein_length_px: length of all vein centrelines
    inside the outline, from the geometry. vein_density_px_per_px2: their ratio. areole_count: regions closed by veins,
    that is 4-connected regions of the leaf mask minus the vein mask that have no 4-neighbour outside the leaf.
    """

    leaf_area_px2: float
    vein_length_px: float
    vein_density_px_per_px2: float
    areole_count: int

    def columns(self) -> dict[str, str]:
        """As text for the manifest."""
        return {name: f"{value:.6g}" for name, value in asdict(self).items()}


def measure(polygon_px: np.ndarray, pieces_px: Pieces, leaf: np.ndarray, veins: np.ndarray) -> Traits:
    """Measure a leaf. polygon_px: (N, 2); leaf, veins: bool (H, W)."""
    area = polygon_area(polygon_px)
    length = float(pieces_px.length.sum())
    return Traits(area, length, length / area, count_areoles(leaf, veins))


def polygon_area(polygon: np.ndarray) -> float:
    """Area of a simple polygon (N, 2): the shoelace formula."""
    x, y = polygon.T
    return float(0.5 * abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()))


def count_areoles(leaf: np.ndarray, veins: np.ndarray) -> int:
    """Regions closed by veins. leaf, veins: bool (H, W)."""
    regions, count = label(~(leaf & veins))  # 4-connected, as the veins are 8-connected
    return int(count - len(np.setdiff1d(regions[~leaf], 0)))
