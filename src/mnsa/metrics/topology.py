"""Metrics of thin structures: whether veins hold together, are where they should be, and are as long as they should be.

NumPy, SciPy and scikit-image, no torch. H, W mask size in pixels; M mask classes; N images. Foreground is 8-connected,
background 4-connected. A hole is a background component that does not reach the edge of the image: an areole of a vein
mask. Skeletons are those of Lee's thinning (T. C. Lee, R. L. Kashyap, C. N. Chu, CVGIP: Graphical Models and Image
Processing 56, 1994), which keeps the topology. A score without anything to score is NaN.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import label
from scipy.sparse import coo_array
from skimage.morphology import skeletonize

from mnsa.metrics.functional import nanmean
from mnsa.structures import IGNORE_INDEX

TOLERANCE_PX = 2.0  # how far a boundary or a centerline may be off

# What a thin structure is; see `is_thin`.
MAX_RELATIVE_WIDTH = 1 / 20
MIN_ELONGATION = 5.0
MAX_FILL = 1 / 2
_MIN_SQUARE_PX = 8

_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)
_MIN_CORRELATED = 3  # images; Pearson's r of two is 1 or -1


class ImageTopology(NamedTuple):
    """What the topology metrics need of one mask class of one image; scores are sums and means over images.

    is_thin: 1.0 or 0.0, whether the true mask is thin; NaN where it is empty. The other fields are NaN where the true
    mask is so thick that nothing was measured. components_..., holes_...: Betti-0 and Betti-1 numbers. holes_matched:
    pairs of holes with IoU > 0.5. length_...: of the skeleton, in px. centerline_..., boundary_...: pixels.
    ..._hit: those within the tolerance of the other mask's centerline or boundary.
    """

    is_thin: float
    cldice: float = math.nan
    components_predicted: float = math.nan
    components_true: float = math.nan
    holes_predicted: float = math.nan
    holes_true: float = math.nan
    holes_matched: float = math.nan
    length_predicted: float = math.nan
    length_true: float = math.nan
    centerline_predicted: float = math.nan
    centerline_predicted_hit: float = math.nan
    centerline_true: float = math.nan
    centerline_true_hit: float = math.nan
    boundary_predicted: float = math.nan
    boundary_predicted_hit: float = math.nan
    boundary_true: float = math.nan
    boundary_true_hit: float = math.nan


TOPOLOGY_DTYPE = np.dtype([(name, np.float64) for name in ImageTopology._fields])
"""Of arrays with one `ImageTopology` per image, (N,), or per image and mask class, (N, M)."""


def cl_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Centerline Dice: the harmonic mean of topology precision and topology sensitivity, in 0..1.

    Precision is the fraction of the predicted skeleton inside the true mask, sensitivity that of the true skeleton
    inside the predicted mask. predicted, truth: bool (H, W). NaN when both are empty, 0 when one is. Source: S. Shit et
    al., "clDice", CVPR 2021.
    """
    predicted, truth = _crop(predicted, truth, margin=1)
    return _cl_dice(predicted, truth, thin(predicted), thin(truth))


def betti_numbers(mask: np.ndarray) -> tuple[int, int]:
    """Betti-0 and Betti-1 of a mask, bool (H, W): 8-connected components, and holes (4-connected)."""
    (mask,) = _crop(mask, margin=1)
    return _label_components(mask), _label_holes(mask)[1]


def thin(mask: np.ndarray) -> np.ndarray:
    """Lee's skeleton of a mask, bool (H, W)."""
    return np.asarray(skeletonize(mask, method="lee"), dtype=bool)


def skeleton_length(skeleton: np.ndarray) -> float:
    """Length of a skeleton, bool (H, W), in px: links between 8-neighbors.

    Diagonal links with a common 4-neighbor in the skeleton are left out: the path leads over that.
    """
    straight = np.count_nonzero(skeleton[:, 1:] & skeleton[:, :-1]) + np.count_nonzero(skeleton[1:] & skeleton[:-1])
    upper_left, upper_right = skeleton[:-1, :-1], skeleton[:-1, 1:]
    lower_left, lower_right = skeleton[1:, :-1], skeleton[1:, 1:]
    falling = upper_left & lower_right & ~upper_right & ~lower_left
    rising = upper_right & lower_left & ~upper_left & ~lower_right
    return straight + math.sqrt(2) * (np.count_nonzero(falling) + np.count_nonzero(rising))


def is_thin(mask: np.ndarray, skeleton: np.ndarray, components: int) -> bool:
    """Whether a mask, bool (H, W), not empty, is of a thin structure: veins, vessels, mortar; not leaves or lesions.

    Its mean width, area / skeleton pixels, is at most MAX_RELATIVE_WIDTH of the image's shorter side; its components
    are on average at least MIN_ELONGATION times as long as that; and it covers at most MAX_FILL of the squares of
    that width that it touches, so a leaf between its veins is not thin. skeleton: its skeleton, cropped or not.
    """
    area, length = np.count_nonzero(mask), np.count_nonzero(skeleton)
    width = area / (length or 1)
    is_narrow = width <= MAX_RELATIVE_WIDTH * min(mask.shape)
    return bool(is_narrow and length >= MIN_ELONGATION * width * components and not _is_thick(mask))


def mask_topology(predicted: np.ndarray, truth: np.ndarray, mask_classes: int) -> np.ndarray:
    """Measure the mask classes of one image: class indices (H, W) -> TOPOLOGY_DTYPE (M,).

    Pixels whose truth is IGNORE_INDEX are background in both. With one mask class, index 1 is that class; with several,
    index m is class m, and the first one, the background, is not measured.
    """
    predicted = np.where(truth == IGNORE_INDEX, 0, predicted)
    rows = [] if mask_classes == 1 else [ImageTopology(is_thin=0.0)]
    rows += [measure_topology(predicted == index, truth == index) for index in range(1, max(mask_classes, 2))]
    return np.array(rows, dtype=TOPOLOGY_DTYPE)


def measure_topology(predicted: np.ndarray, truth: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> ImageTopology:
    """Measure one mask class of one image. predicted, truth: bool (H, W). tolerance_px: of boundary and centerline."""
    if _is_thick(truth):  # Lee's thinning of a leaf would take longer than the network
        return ImageTopology(is_thin=0.0)
    image = truth
    predicted, truth = masks = _crop(predicted, truth, margin=math.ceil(tolerance_px) + 1)
    components = [_label_components(mask) for mask in masks]
    (predicted_holes, n_predicted_holes), (true_holes, n_true_holes) = (_label_holes(mask) for mask in masks)
    predicted_lines, true_lines = lines = thin(predicted), thin(truth)
    boundaries = _boundary(predicted), _boundary(truth)
    hits = (predicted_lines, true_lines), (true_lines, predicted_lines), boundaries, boundaries[::-1]
    return ImageTopology._make([
        float(is_thin(image, true_lines, components[1])) if components[1] else math.nan,
        _cl_dice(predicted, truth, predicted_lines, true_lines),
        *components, n_predicted_holes, n_true_holes, _count_matches(predicted_holes, true_holes),
        *(skeleton_length(skeleton) for skeleton in lines),
        *(count for points, targets in hits for count in _count_hits(points, targets, tolerance_px)),
    ])  # fmt: skip


def is_thin_class(rows: np.ndarray) -> bool:
    """Whether most of the true masks that are not empty are thin: TOPOLOGY_DTYPE (N,)."""
    return nanmean(rows["is_thin"]) > 0.5


def mean_cl_dice(rows: np.ndarray) -> float:
    """Mean clDice over the images (N,) in which prediction or truth has a pixel."""
    return nanmean(rows["cldice"])


def betti_errors(rows: np.ndarray, kind: str) -> np.ndarray:
    """Absolute difference of the numbers of `components` or `holes`, (N,)."""
    return np.asarray(np.abs(rows[f"{kind}_predicted"] - rows[f"{kind}_true"]))


def betti0_error(rows: np.ndarray) -> float:
    """Mean over images (N,) of the absolute difference of the numbers of components."""
    return nanmean(betti_errors(rows, "components"))


def betti1_error(rows: np.ndarray) -> float:
    """Mean over images (N,) of the absolute difference of the numbers of holes."""
    return nanmean(betti_errors(rows, "holes"))


def areole_f1(rows: np.ndarray) -> float:
    """Detection F1 of holes, from the counts of all images (N,). A hole is found by one with an IoU above 0.5.

    Above 0.5 a hole has at most one partner (A. Kirillov et al., "Panoptic Segmentation", CVPR 2019).
    """
    return _ratio(2 * _total(rows, "holes_matched"), _total(rows, "holes_predicted") + _total(rows, "holes_true"))


def boundary_f1(rows: np.ndarray) -> float:
    """Harmonic mean of the fractions of predicted and true boundary pixels that hit, over all images (N,) together.

    Source: G. Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
    """
    fractions = [_hit_fraction(rows, name) for name in ("boundary_predicted", "boundary_true")]
    known = [value for value in fractions if not math.isnan(value)]
    return _harmonic_mean(known[0], known[-1]) if known else math.nan


def centerline_recall(rows: np.ndarray) -> float:
    """Fraction of the true centerlines of all images (N,) within the tolerance of a predicted centerline: completeness.

    Source: C. Wiedemann et al., "Empirical evaluation of automatically extracted road axes" (1998).
    """
    return _hit_fraction(rows, "centerline_true")


def centerline_precision(rows: np.ndarray) -> float:
    """Fraction of the predicted centerlines of all images (N,) within the tolerance of a true one: correctness."""
    return _hit_fraction(rows, "centerline_predicted")


def length_bias(rows: np.ndarray) -> float:
    """Relative difference of the length of all predicted centerlines to that of all true ones: -0.1 is 10 % less.

    It is also the bias of the vein density where both are measured over the same area.
    """
    return _ratio(_total(rows, "length_predicted"), _total(rows, "length_true")) - 1


def length_r(rows: np.ndarray) -> float:
    """Pearson's correlation of predicted and true length over images (N,)."""
    return _pearson(rows["length_predicted"], rows["length_true"])


def areole_count_bias(rows: np.ndarray) -> float:
    """Relative difference of the number of all predicted holes to that of all true ones."""
    return _ratio(_total(rows, "holes_predicted"), _total(rows, "holes_true")) - 1


def areole_count_r(rows: np.ndarray) -> float:
    """Pearson's correlation of the numbers of predicted and true holes over images (N,)."""
    return _pearson(rows["holes_predicted"], rows["holes_true"])


def _is_thick(mask: np.ndarray) -> bool:
    """Whether a mask covers more than MAX_FILL of the squares of a grid that it touches."""
    side = max(_MIN_SQUARE_PX, round(MAX_RELATIVE_WIDTH * min(mask.shape)))
    per_square = mask.view(np.uint8)
    for axis in (0, 1):
        per_square = np.add.reduceat(per_square, np.arange(0, mask.shape[axis], side), axis, dtype=np.int32)
    return bool(per_square.sum() > MAX_FILL * side**2 * np.count_nonzero(per_square))


def _crop(*masks: np.ndarray, margin: int) -> list[np.ndarray]:
    """Crop masks of one shape to the box around the foreground of all, with a margin of background on each side.

    The margin may lie beyond the image: what reaches the image's edge is then connected with it.
    """
    union = np.logical_or.reduce(masks)
    rows, columns = np.flatnonzero(union.any(1)), np.flatnonzero(union.any(0))
    if not len(rows):
        return [np.zeros((2 * margin + 1, 2 * margin + 1), dtype=bool) for _ in masks]
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return [np.pad(mask[box], margin) for mask in masks]


def _label_components(mask: np.ndarray) -> int:
    return int(label(mask, _EIGHT_NEIGHBORS)[1])


def _label_holes(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the holes of a mask with a margin: int32 (H, W), 0 outside holes, in no order; and count them."""
    labels, count = label(~mask)
    labels[labels == labels[0, 0]] = 0
    return labels, count - 1


def _count_matches(predicted: np.ndarray, truth: np.ndarray) -> int:
    """Count pairs of holes with IoU > 0.5. predicted, truth: labels (H, W), 0 outside holes."""
    predicted, truth = predicted.ravel(), truth.ravel()
    # runs of equal pairs of labels: far fewer than pixels, and noise has too many holes for a table of all pairs
    changes = (predicted[1:] != predicted[:-1]) | (truth[1:] != truth[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(truth)]])
    pairs, lengths = (predicted[starts[:-1]], truth[starts[:-1]]), np.diff(starts)
    sizes = [np.bincount(labels, lengths) for labels in pairs]
    table = coo_array((lengths, pairs), shape=(len(sizes[0]), len(sizes[1])))
    table.sum_duplicates()
    first, second = table.coords
    matches = 3 * table.data > sizes[0][first] + sizes[1][second]  # IoU > 1 / 2
    return int(np.count_nonzero(matches & (first > 0) & (second > 0)))


def _cl_dice(predicted: np.ndarray, truth: np.ndarray, predicted_lines: np.ndarray, true_lines: np.ndarray) -> float:
    n_predicted, n_true = np.count_nonzero(predicted_lines), np.count_nonzero(true_lines)
    if not n_predicted or not n_true:
        return 0.0 if n_predicted or n_true else math.nan
    precision = np.count_nonzero(predicted_lines & truth) / n_predicted
    return _harmonic_mean(precision, np.count_nonzero(true_lines & predicted) / n_true)


def _boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels with a 4-neighbor outside the mask, which has a margin."""
    neighbors = [np.roll(mask, step, axis) for axis in (0, 1) for step in (1, -1)]
    return np.asarray(mask & ~np.logical_and.reduce(neighbors))


def _count_hits(points: np.ndarray, targets: np.ndarray, tolerance_px: float) -> tuple[int, int]:
    """Count the pixels of `points`, and those with a pixel of `targets` within the tolerance.

    Both are bool (H, W) with a margin wider than the tolerance.
    """
    places = np.flatnonzero(points)
    reach = math.floor(tolerance_px)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    steps = (rows * points.shape[1] + columns)[rows**2 + columns**2 <= tolerance_px**2]
    flat, hit = targets.ravel(), np.zeros(len(places), dtype=bool)
    for step in steps:
        hit |= flat[places + step]
    return len(places), int(np.count_nonzero(hit))


def _hit_fraction(rows: np.ndarray, name: str) -> float:
    return _ratio(_total(rows, f"{name}_hit"), _total(rows, name))


def _total(rows: np.ndarray, name: str) -> float:
    return float(np.nansum(rows[name]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _harmonic_mean(first: float, second: float) -> float:
    return float(2 * first * second / (first + second)) if first + second else 0.0


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation; NaN for fewer than three images, or where the values of one mask are all equal."""
    known = ~np.isnan(first + second)
    first, second = first[known], second[known]
    if len(first) < _MIN_CORRELATED or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])
