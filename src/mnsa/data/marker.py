"""A printed marker of known size, and how it is found in a photo: it gives the scale in pixels per millimeter.

The marker is a black square of 6 x 6 cells; the inner 4 x 4 cells have a pattern that is the same in no other turn.
Its sides are fitted to the full photo by least squares, so the scale is more exact than a pixel. In a photo that is
taken at an angle, the scale is the mean at the marker: the root of its area in pixels.
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.measure import find_contours, label, regionprops
from skimage.transform import ProjectiveTransform

from mnsa.errors import DataError

DEFAULT_MM = 30.0  # side of the black square

PATTERN = np.array([[1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 0]], bool)  # True: white

_CELLS = 6

_PRINT_DPI = 600

_SEARCH_PX = 1200  # the longer side of the photo in which candidates are searched; the marker needs 3 % of it

_MIN_SIDE_PX = 24  # of a marker in the photo

_SAMPLES = 60  # along each side


def draw_marker(path: Path, size_mm: float = DEFAULT_MM) -> None:
    """Write the marker with a white border as a PNG that prints at its size. Raises: DataError for an absurd size."""
    if not 5 <= size_mm <= 200:
        raise DataError(f"The size of the marker is {size_mm:g} mm; expected 5 to 200.")
    cells = np.ones((_CELLS + 2, _CELLS + 2), bool)
    cells[1:-1, 1:-1] = False
    cells[2:-2, 2:-2] = PATTERN
    cell_px = round(size_mm / _CELLS / 25.4 * _PRINT_DPI)
    dpi = cell_px * _CELLS / size_mm * 25.4  # that of whole pixels
    image = Image.fromarray((cells.repeat(cell_px, 0).repeat(cell_px, 1) * 255).astype(np.uint8))
    image.save(path, format="PNG", dpi=(dpi, dpi))


def find_marker_scale(pixels: np.ndarray, size_mm: float, name: str) -> float:
    """Return the scale of a photo uint8 (H, W, 3) in pixels per millimeter, by the marker in it.

    size_mm: side of the marker's black square. Raises: DataError when there is no marker, or there are several of
    different scales.
    """
    gray = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    scales = [_side_px(corners) / size_mm for corners in _find_markers(gray)]
    if not scales:
        raise DataError(
            f"{name} shows no marker. Print one with `mnsa marker`, and lay it flat beside the leaf, whole, sharp, "
            "with its white border."
        )
    if max(scales) > 1.05 * min(scales):
        raise DataError(f"{name} shows {len(scales)} markers of different sizes. Leave one in the photo.")
    return float(np.mean(scales))


def _find_markers(gray: np.ndarray) -> list[np.ndarray]:
    """The corners (4, 2) of each marker, as (x, y) in pixels, in order around it."""
    factor = max(1, math.ceil(max(gray.shape) / _SEARCH_PX))
    height, width = (side // factor * factor for side in gray.shape)
    small = gray[:height, :width].reshape(height // factor, factor, width // factor, factor).mean((1, 3))
    window = max(small.shape) // 8
    found = []
    for dark in (small < ndimage.uniform_filter(small, window) - 8, small < _otsu(small)):
        for region in regionprops(label(dark)):
            if region.bbox[2] - region.bbox[0] < _MIN_SIDE_PX / factor or region.area < 60:
                continue
            corners = _quadrilateral(region)
            if corners is None:
                continue
            corners = _refine((corners + 0.5) * factor - 0.5, gray)
            if corners is not None and _has_pattern(corners, gray):
                found.append(corners)
        if found:
            break
    return found


def _otsu(gray: np.ndarray) -> float:
    """The threshold that parts dark and light best."""
    counts = np.bincount(gray.astype(np.uint8).ravel(), minlength=256).astype(float)
    weights, sums = counts.cumsum(), (counts * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * weights / weights[-1] - sums) ** 2 / (weights * (weights[-1] - weights))
    return float(np.nanargmax(np.nan_to_num(between, posinf=0))) + 1


def _quadrilateral(region: object) -> np.ndarray | None:
    """The corners (4, 2) as (x, y) of a region whose outline is a quadrilateral; None for another."""
    filled = np.pad(region.image_filled, 1)  # type: ignore[attr-defined]
    top, left = region.bbox[:2]  # type: ignore[attr-defined]
    outline = max(find_contours(filled.astype(float), 0.5), key=len)[:, ::-1] + np.array([left - 1, top - 1])
    center = outline.mean(0)
    first = outline[((outline - center) ** 2).sum(1).argmax()]
    third = outline[((outline - first) ** 2).sum(1).argmax()]
    axis = third - first
    sides = (outline - first) @ np.array([-axis[1], axis[0]])
    corners = np.array([first, outline[sides.argmax()], third, outline[sides.argmin()]])
    area = _area(corners)
    filled_area = float(filled.sum())
    return corners if area > 0 and 0.8 < filled_area / area < 1.25 else None


def _refine(corners: np.ndarray, gray: np.ndarray) -> np.ndarray | None:
    """Fit a line to the edge between dark and light at each side; return where the lines meet."""
    side = _side_px(corners)
    reach = max(3.0, side / _CELLS / 2)
    center, lines = corners.mean(0), []
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        along = (end - start) / max(float(np.hypot(*(end - start))), 1e-6)
        outward = np.array([along[1], -along[0]])
        if outward @ (start - center) < 0:
            outward = -outward
        middles = start + np.linspace(0.08, 0.92, _SAMPLES)[:, None] * (end - start)
        steps = np.arange(-reach, reach + 0.25, 0.5)
        points = middles[:, None] + steps[None, :, None] * outward
        profiles = ndimage.map_coordinates(gray, [points[..., 1], points[..., 0]], order=1, mode="nearest")
        low, high = profiles[:, :3].mean(1), profiles[:, -3:].mean(1)
        above = profiles >= ((low + high) / 2)[:, None]
        crossing = above.argmax(1)
        usable = (high - low > 25) & (crossing > 0)
        if usable.sum() < _SAMPLES // 2:
            return None
        rows = np.flatnonzero(usable)
        right = crossing[rows]
        before, after = profiles[rows, right - 1], profiles[rows, right]
        offset = steps[right - 1] + 0.5 * ((low + high)[rows] / 2 - before) / np.maximum(after - before, 1e-6)
        lines.append(_fit_line(middles[rows] + offset[:, None] * outward))
    meet = [_intersect(lines[index - 1], lines[index]) for index in range(4)]
    return np.array(meet) if all(point is not None for point in meet) else None


def _fit_line(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A point and a direction; points that are far from the line are left out."""
    for _ in range(3):
        center = points.mean(0)
        direction = np.linalg.svd(points - center, full_matrices=False)[2][0]
        away = np.abs((points - center) @ np.array([-direction[1], direction[0]]))
        points = points[away <= max(0.5, 2.5 * float(np.median(away)))]
    return center, direction


def _intersect(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> np.ndarray | None:
    system = np.stack([one[1], -other[1]], 1)
    if abs(np.linalg.det(system)) < 0.3:  # the lines are nearly parallel
        return None
    meeting: np.ndarray = one[0] + np.linalg.solve(system, other[0] - one[0])[0] * one[1]
    return meeting


def _has_pattern(corners: np.ndarray, gray: np.ndarray) -> bool:
    """Whether the cells between the corners, and the white border around them, are those of the marker."""
    if min(np.hypot(*(corners - np.roll(corners, 1, 0)).T)) < _MIN_SIDE_PX:
        return False
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * float(_CELLS)
    transform = ProjectiveTransform.from_estimate(square, corners)
    if not transform:
        return False
    middles = np.arange(-1, _CELLS + 1) + 0.5
    grid = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
    points = transform(grid)
    values = ndimage.map_coordinates(gray, points[:, ::-1].T, order=1, mode="nearest").reshape(_CELLS + 2, -1)
    frame = np.concatenate([values[1, 1:-1], values[-2, 1:-1], values[1:-1, 1], values[1:-1, -2]])
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    white, black = float(np.median(border)), float(np.median(frame))
    if white - black < 25:
        return False
    is_white = values > (white + black) / 2
    expected = np.ones_like(is_white)
    expected[1:-1, 1:-1] = False
    expected[2:-2, 2:-2] = PATTERN
    turned = [np.rot90(one, turns) for one in (expected, expected.T) for turns in range(4)]
    inner = (slice(1, -1), slice(1, -1))
    return any((is_white[inner] == one[inner]).all() and (is_white == one).mean() > 0.9 for one in turned)


def _area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def _side_px(corners: np.ndarray) -> float:
    return math.sqrt(_area(corners))
