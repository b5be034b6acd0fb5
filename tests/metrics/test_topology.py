"""Topology metrics are those of independent computations: persistent homology, and definitions in plain loops."""

import math
from typing import Any

import cripser
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.draw import ellipse, line
from skimage.measure import euler_number
from skimage.measure import label as label_components
from skimage.morphology import skeletonize

from mnsa.metrics import topology
from mnsa.metrics.topology import (
    TOPOLOGY_DTYPE,
    areole_count_bias,
    areole_count_r,
    areole_f1,
    betti0_error,
    betti1_error,
    betti_numbers,
    boundary_f1,
    centerline_precision,
    centerline_recall,
    cl_dice,
    is_thin_class,
    length_bias,
    length_r,
    mask_topology,
    mean_cl_dice,
    measure_topology,
    skeleton_length,
    thin,
)
from mnsa.structures import IGNORE_INDEX


def drawing(text: str) -> Any:
    """A mask from lines of `#` and `.`."""
    return np.array([[character == "#" for character in row] for row in text.split()])


def blobs(seed: int, shape: tuple[int, int] = (40, 56), sigma: float = 1.2, level: float = 0.1) -> Any:
    """A random mask with components, holes and diagonal contacts, some at the edge of the image."""
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma) > level


def pair(seed: int) -> Any:
    """A random mask, and the same with some noise, at a random density."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(48, 40)), rng.uniform(0.5, 2))
    noise = gaussian_filter(rng.normal(size=field.shape), 0.7)
    truth = field > np.quantile(field, rng.uniform(0.2, 0.9))
    return field + 0.4 * field.std() * noise / noise.std() > np.quantile(field, rng.uniform(0.2, 0.9)), truth


def net(shape: tuple[int, int] = (128, 160), step: int = 20, width: int = 2) -> Any:
    """Lines of veins with square areoles."""
    mask = np.zeros(shape, dtype=bool)
    for first in range(10, shape[0] - 10, step):
        mask[first : first + width, 10 : shape[1] - 10] = True
    for first in range(10, shape[1] - 10, step):
        mask[10 : shape[0] - 10, first : first + width] = True
    return mask


def rows_of(*pairs: Any) -> Any:
    return np.array([measure_topology(predicted, truth) for predicted, truth in pairs], dtype=TOPOLOGY_DTYPE)


def persistent_betti_numbers(mask: Any) -> tuple[int, int]:
    """By the T-construction, whose pixels touch at corners, of a mask with a margin of background."""
    born = np.where(np.pad(mask, 1), 0.0, 1.0)
    intervals = cripser.compute_ph(born, maxdim=1, filtration="T")
    alive = intervals[(intervals[:, 1] == 0) & (intervals[:, 2] >= 1)]
    return int((alive[:, 0] == 0).sum()), int((alive[:, 0] == 1).sum())


@pytest.mark.parametrize("seed", range(40))
def test_betti_numbers_are_those_of_persistent_homology(seed: int) -> None:
    mask = blobs(seed, sigma=0.4 + 0.05 * seed, level=0.05 * (seed % 8 - 4))
    assert betti_numbers(mask) == persistent_betti_numbers(mask)
    components, holes = betti_numbers(mask)
    assert components - holes == euler_number(mask, connectivity=2)


@pytest.mark.parametrize(
    ("text", "components", "holes"),
    [
        ("...", 0, 0),
        ("###", 1, 0),
        ("##.##", 2, 0),
        ("#. .#", 1, 0),  # a diagonal connection
        ("### #.# ###", 1, 1),
        ("##. #.# ###", 1, 1),  # the ring is closed diagonally
        ("#.# #.# ###", 1, 0),  # the hole touches the edge of the image
        (".#.. #.#. .#.# ..#.", 1, 2),  # holes that touch diagonally are two
        ("#### #..# #..# ####", 1, 1),
        ("##### #...# #.#.# #...# #####", 2, 1),  # a component inside a hole
    ],
)
def test_betti_numbers_of_drawings(text: str, components: int, holes: int) -> None:
    assert betti_numbers(drawing(text)) == persistent_betti_numbers(drawing(text)) == (components, holes)


def test_a_gap_of_one_pixel_is_a_betti0_error_of_one() -> None:
    truth = np.zeros((30, 30), dtype=bool)
    truth[15, 3:27] = True
    predicted = truth.copy()
    predicted[15, 12] = False
    rows = rows_of((predicted, truth))
    assert (betti0_error(rows), betti1_error(rows)) == (1, 0)


def test_a_broken_ring_is_a_betti1_error_of_one_and_a_lost_areole() -> None:
    truth = net(step=40)
    predicted = truth.copy()
    predicted[10:12, 30] = False
    rows = rows_of((predicted, truth))
    n_areoles = betti_numbers(truth)[1]
    assert (betti0_error(rows), betti1_error(rows)) == (0, 1)
    assert areole_count_bias(rows) == pytest.approx(-1 / n_areoles)
    assert areole_f1(rows) == pytest.approx(2 * (n_areoles - 1) / (2 * n_areoles - 1))


def cl_dice_of_the_paper(predicted: Any, truth: Any) -> float:
    skeletons = [skeletonize(mask, method="lee") > 0 for mask in (predicted, truth)]
    precision = sum(truth[place] for place in zip(*np.nonzero(skeletons[0]), strict=True)) / skeletons[0].sum()
    recall = sum(predicted[place] for place in zip(*np.nonzero(skeletons[1]), strict=True)) / skeletons[1].sum()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("seed", range(10))
def test_cldice_is_the_papers_formula_on_whole_images(seed: int) -> None:
    predicted, truth = pair(seed)
    assert cl_dice(predicted, truth) == pytest.approx(cl_dice_of_the_paper(predicted, truth))
    veins = net((48, 40), step=9)
    assert measure_topology(predicted, veins).cldice == pytest.approx(cl_dice_of_the_paper(predicted, veins))


def test_cldice_is_symmetric_one_for_the_truth_and_defined_for_empty_masks() -> None:
    predicted, truth = pair(1)
    empty = np.zeros_like(truth)
    assert cl_dice(predicted, truth) == pytest.approx(cl_dice(truth, predicted))
    assert cl_dice(truth, truth) == 1
    assert cl_dice(empty, truth) == cl_dice(truth, empty) == 0
    assert math.isnan(cl_dice(empty, empty))


def areole_matches(predicted: Any, truth: Any) -> tuple[int, int, int]:
    """Predicted, true and matched holes: every pair is compared."""
    holes = []
    for mask in (predicted, truth):
        labels = label_components(~mask, connectivity=1)
        edge = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
        holes.append([labels == number for number in range(1, labels.max() + 1) if number not in edge])
    pairs = [(one & other).sum() / (one | other).sum() for one in holes[0] for other in holes[1]]
    return len(holes[0]), len(holes[1]), sum(iou > 0.5 for iou in pairs)


@pytest.mark.parametrize("seed", range(15))
def test_areoles_are_matched_as_in_a_comparison_of_all_pairs(seed: int) -> None:
    predicted, truth = pair(seed)
    found = topology._label_holes(np.pad(predicted, 1)), topology._label_holes(np.pad(truth, 1))
    counts = found[0][1], found[1][1], topology._count_matches(found[0][0], found[1][0])
    assert counts == areole_matches(predicted, truth)


def test_an_areole_in_two_halves_is_not_found_twice() -> None:
    truth = drawing("###### #....# #....# ######")
    halves = drawing("###### #.##.# #.##.# ######")
    wide = drawing("####### #..#..# #..#..# #######")
    assert areole_matches(halves, truth)[2] == 0
    count = [topology._label_holes(np.pad(mask, 1))[0] for mask in (halves, truth)]
    assert topology._count_matches(*count) == 0
    whole = drawing("####### #.....# #.....# #######")
    assert topology._count_matches(*(topology._label_holes(np.pad(mask, 1))[0] for mask in (wide, whole))) == 0


def share_within(points: Any, targets: Any, tolerance: float) -> tuple[int, int]:
    return int(points.sum()), int((distance_transform_edt(~targets)[points] <= tolerance).sum())


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 3])
def test_hits_are_those_of_the_distance_transform(tolerance: float) -> None:
    predicted, truth = (np.pad(thin(mask), 5) for mask in pair(4))
    assert topology._count_hits(predicted, truth, tolerance) == share_within(predicted, truth, tolerance)


def test_a_centerline_two_pixels_off_is_a_hit_and_three_pixels_off_is_none() -> None:
    truth = np.zeros((60, 60), dtype=bool)
    truth[30, 5:55] = True
    for shift, expected in ((2, 1.0), (3, 0.0)):
        rows = rows_of((np.roll(truth, shift, axis=0), truth))
        assert centerline_recall(rows) == centerline_precision(rows) == boundary_f1(rows) == expected


def test_recall_misses_what_is_not_predicted_and_precision_what_is_not_true() -> None:
    truth = np.zeros((60, 60), dtype=bool)
    truth[30, 10:50] = True
    half = truth.copy()
    half[:, 30:] = False
    less, more = rows_of((half, truth)), rows_of((truth, half))
    assert centerline_precision(less) == 1
    assert centerline_recall(less) == pytest.approx(22 / 40)  # two pixels beyond the end
    assert centerline_precision(more) == centerline_recall(less)
    assert boundary_f1(less) == boundary_f1(more) == pytest.approx(2 * 0.55 / 1.55)


def test_boundary_pixels_have_a_4_neighbor_outside_also_beyond_the_image() -> None:
    mask = blobs(3)
    padded = np.pad(mask, 1)
    expected = np.zeros_like(padded)
    for row, column in np.argwhere(padded):
        neighbors = ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1))
        expected[row, column] = not all(padded[neighbor] for neighbor in neighbors)
    assert np.array_equal(topology._boundary(padded), expected)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("....", 0),
        ("#...", 0),
        ("####", 3),
        ("#.. .#. ..#", 2 * math.sqrt(2)),
        ("##. ..#", 1 + math.sqrt(2)),
        ("##. .## ...", 3),  # the corner, not the diagonal
        (".#. ### .#.", 4),
        (".#. #.# .#.", 4 * math.sqrt(2)),
    ],
)
def test_length_is_that_of_the_links(text: str, length: float) -> None:
    assert skeleton_length(drawing(text)) == pytest.approx(length)
    assert skeleton_length(drawing(text).T) == pytest.approx(length)


def test_the_length_of_a_straight_vein_is_its_length_at_any_angle_up_to_9_percent() -> None:
    for angle in np.radians(range(0, 180, 7)):
        mask = np.zeros((220, 220), dtype=bool)
        ends = [round(110 + side * 100 * value) for side in (-1, 1) for value in (math.sin(angle), math.cos(angle))]
        mask[line(*ends)] = True
        assert 0.99 * 200 <= skeleton_length(thin(mask)) <= 1.09 * 200


def test_length_and_count_bias_are_relative_to_all_true_masks_together() -> None:
    pairs = [(net(step=40), net(step=20)), (net(step=20), net(step=20)), (net(step=30), net(step=40))]
    rows = rows_of(*pairs)
    holes = np.array([[betti_numbers(mask)[1] for mask in two] for two in pairs])
    lengths = np.array([[skeleton_length(thin(mask)) for mask in two] for two in pairs])
    for bias, r, numbers in ((areole_count_bias, areole_count_r, holes), (length_bias, length_r, lengths)):
        assert bias(rows) == pytest.approx(numbers[:, 0].sum() / numbers[:, 1].sum() - 1)
        assert r(rows) == pytest.approx(np.corrcoef(numbers.T)[0, 1])


def test_a_correlation_of_two_images_or_of_equal_values_does_not_exist() -> None:
    assert math.isnan(length_r(rows_of(*[(net(step=40), net(step=20)), (net(), net(step=40))])))
    assert math.isnan(length_r(rows_of(*[(net(step=40), net())] * 4)))


BEST = {
    mean_cl_dice: 1, betti0_error: 0, betti1_error: 0, areole_f1: 1, boundary_f1: 1, centerline_recall: 1,
    centerline_precision: 1, length_bias: 0, areole_count_bias: 0,
}  # fmt: skip


def test_the_truth_has_the_best_values() -> None:
    rows = rows_of(*[(mask, mask) for mask in (net(), net(step=40), net(step=30))])
    assert {score: score(rows) for score in BEST} == BEST
    assert (length_r(rows), areole_count_r(rows)) == pytest.approx((1, 1))


def test_scores_are_numbers_where_one_mask_is_empty_and_nan_where_both_are() -> None:
    truth, empty = net(), np.zeros((128, 160), dtype=bool)
    missed, invented, nothing = rows_of((empty, truth)), rows_of((truth, empty)), rows_of((empty, empty))
    holes = betti_numbers(truth)[1]
    worst = [0, 1, holes, 0, 0, 0]
    scores = [mean_cl_dice, betti0_error, betti1_error, areole_f1, boundary_f1]
    assert [score(missed) for score in (*scores, centerline_recall)] == worst
    assert [score(invented) for score in (*scores, centerline_precision)] == worst
    assert length_bias(missed) == areole_count_bias(missed) == -1
    assert [score(nothing) for score in (betti0_error, betti1_error)] == [0, 0]
    for score in (mean_cl_dice, areole_f1, boundary_f1, centerline_recall, length_bias, length_r, areole_count_bias):
        assert math.isnan(score(nothing))


def test_exchanging_the_masks_exchanges_precision_and_recall_and_changes_nothing_symmetric() -> None:
    pairs = [(first & net(), net()) for first in (blobs(seed, (128, 160), 3, -0.15) for seed in range(4))]
    forth, back = rows_of(*pairs), rows_of(*[two[::-1] for two in pairs])
    for score in (mean_cl_dice, betti0_error, betti1_error, areole_f1, boundary_f1, areole_count_r):
        assert score(forth) == pytest.approx(score(back), nan_ok=True)
    assert centerline_recall(forth) == centerline_precision(back)


def test_pixels_of_unknown_truth_are_background_in_both() -> None:
    truth, predicted = net().astype(np.uint8), net(step=30).astype(np.uint8)
    unknown = truth.copy()
    unknown[60:, :] = IGNORE_INDEX
    known = np.arange(128)[:, None] < 60
    expected = measure_topology((predicted == 1) & known, (truth == 1) & known)
    assert tuple(mask_topology(predicted, unknown, 1)[0]) == pytest.approx(expected)


def test_each_class_but_the_background_is_measured() -> None:
    classes = np.where(net(), 2, np.where(net(step=30), 1, 0)).astype(np.uint8)
    found = mask_topology(np.roll(classes, 1), classes, 3)
    assert found["is_thin"].tolist() == [0, 1, 1]
    assert math.isnan(found["components_true"][0])
    assert tuple(found[2]) == pytest.approx(measure_topology(np.roll(classes, 1) == 2, classes == 2))


def ellipses(*radii: tuple[int, int]) -> Any:
    mask = np.zeros((256, 256), dtype=bool)
    rng = np.random.default_rng(0)
    for first, second in radii:
        row, column = (rng.integers(radius + 1, 255 - radius) for radius in (first, second))
        mask[ellipse(row, column, first, second)] = True
    return mask


def leaf() -> Any:
    mask = np.zeros((256, 256), dtype=bool)
    mask[ellipse(128, 128, 70, 100)] = True
    return mask


def vein_of_the_leaf() -> Any:
    mask = np.zeros((256, 256), dtype=bool)
    mask[line(128, 20, 128, 220)] = True
    return mask


THIN = {
    "veins": net((256, 256), step=20),
    "dense veins": net((256, 256), step=9),
    "mortar": net((256, 256), step=50, width=7),
    "one vein": vein_of_the_leaf(),
    "pieces of veins": net((256, 256)) & blobs(0, (256, 256), 8, -0.01),
}
NOT_THIN = {
    "leaf": leaf(),
    "leaf between veins": leaf() & ~net((256, 256), step=14),
    "lesions": ellipses(*[(4, 5)] * 25),
    "lesions of all sizes": ellipses(*[(2, 2)] * 40, (18, 12), (9, 7), (5, 9)),
    "a long lesion": ellipses((4, 11)),
    "specks": np.random.default_rng(0).random((256, 256)) < 0.01,
}


@pytest.mark.parametrize("name", THIN)
def test_veins_vessels_and_mortar_are_thin(name: str) -> None:
    assert measure_topology(THIN[name], THIN[name]).is_thin == 1


@pytest.mark.parametrize("name", NOT_THIN)
def test_leaves_and_lesions_are_not_thin(name: str) -> None:
    assert measure_topology(NOT_THIN[name], NOT_THIN[name]).is_thin == 0


def test_most_true_masks_decide_whether_a_class_is_thin() -> None:
    thin_pair, thick_pair, empty = (np.ones((256, 256), bool), THIN["veins"]), (THIN["veins"], leaf()), np.zeros((9, 9))
    unknown = (THIN["veins"][:9, :9], empty.astype(bool))
    assert is_thin_class(rows_of(thin_pair, thin_pair, thick_pair, unknown, unknown))
    assert not is_thin_class(rows_of(thin_pair, thick_pair, unknown))
    assert not is_thin_class(rows_of(unknown))


def test_a_leaf_is_not_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(topology, "skeletonize")
    assert measure_topology(leaf(), leaf()).is_thin == 0


def test_noise_with_many_holes_needs_little_memory() -> None:
    noise = np.random.default_rng(0).random((2, 300, 300)) < 0.6
    labels = [topology._label_holes(np.pad(mask, 1))[0] for mask in noise]
    assert topology._count_matches(*labels) > 0
