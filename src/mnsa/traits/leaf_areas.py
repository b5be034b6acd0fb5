"""Size and outline of a leaf."""

import numpy as np
from scipy.ndimage import find_objects, label, uniform_filter1d
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from mnsa.traits import regions
from mnsa.traits.records import LeafTraits

_PIECE = 0.01  # of the leaf's area: smaller pieces are specks
_WINDOW = 5  # points of the contour, half a pixel to one pixel apart, that are averaged


def measure_leaf(leaf: np.ndarray) -> LeafTraits:
    """Measure a leaf mask, bool (H, W)."""
    labels, count = label(leaf, structure=np.ones((3, 3)))
    if not count:
        nothing = float("nan")
        return LeafTraits(0.0, nothing, nothing, nothing, nothing, nothing, piece_count=0)
    areas = regions.areas(labels, count)
    largest = int(areas.argmax())
    contour = _outer_contour(labels[find_objects(labels)[largest]] == largest + 1)
    hull = ConvexHull(contour)  # scipy calls a plane hull's area its volume
    length, width = _smallest_rectangle(contour[hull.vertices])
    smooth = uniform_filter1d(contour, _WINDOW, axis=0, mode="wrap")
    perimeter = float(np.hypot(*(np.roll(smooth, -1, axis=0) - smooth).T).sum())
    return LeafTraits(
        area_px2=float(areas.sum()),
        perimeter_px=perimeter,
        length_px=length,
        width_px=width,
        circularity=min(4.0 * np.pi * float(areas[largest]) / perimeter**2, 1.0),
        solidity=min(float(areas[largest]) / float(hull.volume), 1.0),
        piece_count=int((areas >= _PIECE * areas.sum()).sum()),
    )


def _outer_contour(piece: np.ndarray) -> np.ndarray:
    """The outline of one piece, halfway between its pixels and the next: (N, 2), not closed by its first point."""
    contours = find_contours(np.pad(piece, 1).astype(np.float64), 0.5, fully_connected="high")
    return np.asarray(max(contours, key=lambda contour: np.ptp(contour, axis=0).prod())[:-1])


def _smallest_rectangle(hull: np.ndarray) -> tuple[float, float]:
    """Long and short side of the smallest rectangle around a convex polygon (N, 2): it lies along one of its sides."""
    side = np.roll(hull, -1, axis=0) - hull
    along = side / np.hypot(*side.T)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    extents = np.stack([np.ptp(hull @ axes.T, axis=0) for axes in (along, across)], axis=1)
    sides = extents[extents.prod(axis=1).argmin()]
    return float(sides.max()), float(sides.min())
