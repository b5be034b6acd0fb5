"""Traits of areas: the leaf, the areoles (regions that veins enclose) and the lesions."""

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label, uniform_filter1d
from scipy.spatial import ConvexHull
from skimage.measure import find_contours

from mnsa.traits import region_props
from mnsa.traits.records import AreoleTraits, LeafTraits, LesionTraits, summarize

_MIN_PIECE_FRACTION = 0.01  # of the leaf's area; smaller pieces are not counted

_SMOOTHING_WINDOW = 5  # points of the contour, half a pixel to one pixel apart, that are averaged


def measure_areoles(veins: np.ndarray, reference_area: np.ndarray) -> AreoleTraits:
    """Measure the 4-connected regions of `reference_area` between the veins, as veins are 8-connected.

    Both bool (H, W).
    """
    labels, count = label(reference_area & ~veins)
    # pixels outside of the image count as outside of the reference area
    at_border = binary_dilation(~reference_area, border_value=1) & reference_area
    is_open = np.zeros(count + 1, dtype=bool)
    is_open[labels[at_border]] = True
    closed = ~is_open[1:]
    area, perimeter = region_props.areas(labels, count)[closed], region_props.perimeters(labels, count)[closed]
    roundness = np.minimum(4.0 * np.pi * area / perimeter**2, 1.0)  # regions of few pixels would have more than 1
    return AreoleTraits(
        count=int(closed.sum()),
        border_count=int(is_open[1:].sum()),
        area_px2=summarize(area),
        circularity=summarize(roundness).mean,
        elongation=summarize(region_props.elongations(labels, count)[closed]).mean,
    )


def measure_leaf(leaf: np.ndarray) -> LeafTraits:
    """Measure a leaf mask, bool (H, W)."""
    labels, count = label(leaf, structure=np.ones((3, 3)))
    if not count:
        nothing = float("nan")
        return LeafTraits(0.0, nothing, nothing, nothing, nothing, nothing, piece_count=0)
    areas = region_props.areas(labels, count)
    largest = int(areas.argmax())
    contour = _outer_contour(labels[find_objects(labels)[largest]] == largest + 1)
    hull = ConvexHull(contour)  # in two dimensions, hull.volume is the area
    length, width = _min_area_rectangle(contour[hull.vertices])
    smooth = uniform_filter1d(contour, _SMOOTHING_WINDOW, axis=0, mode="wrap")
    perimeter = float(np.hypot(*(np.roll(smooth, -1, axis=0) - smooth).T).sum())
    return LeafTraits(
        area_px2=float(areas.sum()),
        perimeter_px=perimeter,
        length_px=length,
        width_px=width,
        circularity=min(4.0 * np.pi * float(areas[largest]) / perimeter**2, 1.0),
        solidity=min(float(areas[largest]) / float(hull.volume), 1.0),
        piece_count=int((areas >= _MIN_PIECE_FRACTION * areas.sum()).sum()),
    )


def measure_lesions(lesions: np.ndarray, leaf: np.ndarray | None) -> LesionTraits:
    """Measure a lesion mask, bool (H, W). leaf: bool (H, W), lesions included, or None: the area fraction is NaN."""
    labels, count = label(lesions, structure=np.ones((3, 3)))
    leaf_area = 0 if leaf is None else int(leaf.sum())
    fraction = float(lesions.sum()) / leaf_area if leaf_area else float("nan")
    return LesionTraits(count=int(count), area_fraction=fraction, area_px2=summarize(region_props.areas(labels, count)))


def _outer_contour(piece: np.ndarray) -> np.ndarray:
    """Find the outer contour of one piece, halfway to the neighboring pixels: (N, 2), not closed."""
    contours = find_contours(np.pad(piece, 1).astype(np.float64), 0.5, fully_connected="high")
    return np.asarray(max(contours, key=lambda contour: np.ptp(contour, axis=0).prod())[:-1])


def _min_area_rectangle(hull: np.ndarray) -> tuple[float, float]:
    """Compute the long and short side of the smallest rectangle around a convex polygon (N, 2).

    One side of this rectangle is parallel to a side of the polygon.
    """
    side = np.roll(hull, -1, axis=0) - hull
    along = side / np.hypot(*side.T)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    extents = np.stack([np.ptp(hull @ axes.T, axis=0) for axes in (along, across)], axis=1)
    sides = extents[extents.prod(axis=1).argmin()]
    return float(sides.max()), float(sides.min())
