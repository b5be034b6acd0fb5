"""Scores are counts by hand; intervals are those of an independent bootstrap, and draw groups."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mnsa.errors import DataError
from mnsa.metrics.scores import SampleSize, Score
from mnsa.metrics.scoring import bootstrap_interval, score_predictions
from mnsa.metrics.topology import betti_numbers, cl_dice
from mnsa.structures import NO_LABEL, Prediction, Sample
from narrowing import some


def mean_of(values: Any) -> Any:
    return lambda images: float(values[images].mean())


def width(interval: Any) -> Any:
    return interval[1] - interval[0]


def test_the_interval_of_a_mean_is_the_normal_one_for_many_images() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    interval = bootstrap_interval(mean_of(values), np.arange(2000))
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_interval_of_a_mean_is_scipys_bootstrap_interval() -> None:
    values = np.random.default_rng(3).exponential(size=60)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap_interval(mean_of(values), np.arange(60), resamples=10_000)
    assert found == pytest.approx(expected, abs=0.03 * width(expected))


def test_images_of_one_group_that_are_equal_widen_the_interval_by_the_root_of_their_number() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 300)
    repeated, groups = np.repeat(values, 9), np.repeat(np.arange(300), 9)
    over_images = bootstrap_interval(mean_of(repeated), np.arange(2700), resamples=4000)
    over_groups = bootstrap_interval(mean_of(repeated), groups, resamples=4000)
    assert width(over_groups) / width(over_images) == pytest.approx(3, rel=0.08)
    assert over_groups == pytest.approx(bootstrap_interval(mean_of(values), np.arange(300), resamples=4000))


def test_groups_of_unequal_size_give_the_interval_of_a_ratio_of_sums() -> None:
    """The mean over drawn groups is sum of sums / sum of sizes; scipy draws (sum, size) of the groups in pairs."""
    rng = np.random.default_rng(5)
    groups = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 9, 40)))
    values = rng.normal(0, 1, 40)[groups] + rng.normal(0, 0.3, len(groups))
    sums, sizes = np.bincount(groups, values), np.bincount(groups)
    expected = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    found = bootstrap_interval(mean_of(values), groups, resamples=10_000)
    assert found == pytest.approx(expected, abs=0.03 * width(expected))


def test_a_draw_has_as_many_groups_as_there_are_each_with_all_its_images() -> None:
    groups, draws = np.array([0, 1, 0, 2, 2, 2]), []

    def note(images: Any) -> Any:
        draws.append(images)
        return 0.0

    bootstrap_interval(note, groups, resamples=50)
    sizes = np.bincount(groups)
    for images in draws:
        times = np.bincount(images, minlength=6)
        per_group = [set(times[groups == group]) for group in range(3)]
        assert all(len(found) == 1 for found in per_group), "a group was drawn in part"
        assert sum(min(found) for found in per_group) == 3
        assert len(images) == sum(min(found) * size for found, size in zip(per_group, sizes, strict=True))


def test_the_same_images_give_the_same_interval() -> None:
    first, second = (bootstrap_interval(mean_of(np.arange(10.0)), np.arange(10)) for _ in range(2))
    assert first == second


def test_draws_without_a_score_are_left_out() -> None:
    values = np.array([math.nan, 1.0, 2.0])
    low, high = some(bootstrap_interval(lambda images: float(values[images].sum()), np.arange(3)))
    assert (low, high) == (3.0, 6.0)  # the draws of images 1 and 2 alone: sums of three of them
    assert bootstrap_interval(lambda images: math.nan, np.arange(5)) is None


def test_one_group_alone_has_no_interval() -> None:
    assert bootstrap_interval(mean_of(np.arange(4.0)), np.zeros(4, int)) is None


def pair(label: Any = NO_LABEL, truth: Any = None, probs: Any = None, predicted: Any = None, group: Any = None) -> Any:
    mask, predicted = (None if rows is None else np.array(rows, np.uint8) for rows in (truth, predicted))
    sample = Sample("leaf.png", torch.zeros(3, 1, 4), None if mask is None else torch.from_numpy(mask), label, group)
    return sample, Prediction("leaf.png", None if probs is None else np.array(probs, np.float32), predicted, None)


PAIRS = [
    pair(0, [[1, 1, 0, 0]], [0.9, 0.1], [[1, 0, 0, 0]]),  # correct; IoU 1/2
    pair(1, [[0, 0, 0, 0]], [0.8, 0.2], [[0, 0, 0, 0]]),  # wrong; both masks empty
    pair(1, [[0, 0, 1, 1]], [0.3, 0.7], [[0, 0, 1, 1]]),  # correct; IoU 1
]
NAMES = ("a", "b"), ("vein",)


def test_scores_are_counts_by_hand() -> None:
    found = score_predictions(PAIRS, *NAMES, dataset="leaves", calibrated=True)
    assert (found.dataset, found.images, found.calibrated) == ("leaves", 3, True)
    assert found.value("accuracy") == pytest.approx(2 / 3)
    assert found.value("balanced_accuracy") == pytest.approx((1 + 1 / 2) / 2)
    assert (found.classes, found.confusion) == (("a", "b"), [[1, 0], [1, 1]])
    assert found.value("iou", "vein") == pytest.approx(3 / 4)
    assert found.value("iou_per_image", "vein") == pytest.approx((1 / 2 + 1) / 2)
    assert found.value("dice", "vein") == pytest.approx(6 / 7)
    assert found.value("images_empty", "vein") == 1
    assert sum(bar.images for bar in found.reliability) == 3


def many_pairs(groups: Any = None) -> Any:
    """40 images of 12 pixels whose masks differ in size and in how well they are predicted."""
    rng = np.random.default_rng(8)
    pairs = []
    for index in range(40):
        truth = rng.random((3, 4)) < rng.uniform(0.1, 0.9)
        predicted = np.where(rng.random((3, 4)) < 0.7, truth, rng.random((3, 4)) < 0.5)
        probs = rng.dirichlet((1, 1))
        group = None if groups is None else f"plant {groups[index]}"
        pairs.append(pair(int(rng.random() < 0.7), truth, probs, predicted, group))
    return pairs


def independent_interval(per_image: Any, score: Any, groups: Any) -> Any:
    """Percentiles of `score` of the rows of `per_image` (N, ...) over 6,000 draws of whole groups, in plain Python."""
    rng, draws = np.random.default_rng(99), []
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for _ in range(6_000):
        chosen = rng.choice(len(members), len(members))
        draws.append(score(per_image[np.concatenate([members[group] for group in chosen])]))
    return np.quantile(draws, [0.025, 0.975])


@pytest.mark.parametrize("groups", [None, np.arange(40) // 4])
def test_the_intervals_of_accuracy_and_iou_are_those_of_an_independent_bootstrap(groups: Any) -> None:
    pairs = many_pairs(groups)
    found = score_predictions(pairs, *NAMES)
    correct = np.array([answer.class_probs.argmax() == sample.label for sample, answer in pairs], float)
    pixels = np.array(
        [
            (np.sum(answer.mask & sample.mask.numpy()), np.sum(answer.mask | sample.mask.numpy()))
            for sample, answer in pairs
        ]
    )
    units = np.arange(40) if groups is None else groups
    for score, expected in (
        (found.score("accuracy"), independent_interval(correct, np.mean, units)),
        (
            found.score("iou", "vein"),
            independent_interval(pixels, lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), units),
        ),
    ):
        assert score.interval == pytest.approx(expected, abs=0.08 * width(expected))
        low, high = some(score.interval)
        assert low < some(score.value) < high


def test_equal_photos_of_each_plant_widen_the_intervals_by_the_root_of_their_number() -> None:
    single = many_pairs()
    photos = [
        (replace(sample, group=f"plant {n}"), answer) for n, (sample, answer) in enumerate(single) for _ in range(4)
    ]
    ungrouped = [(replace(sample, group=None), answer) for sample, answer in photos]
    grouped, independent, plain = (score_predictions(pairs, *NAMES) for pairs in (photos, ungrouped, single))
    for name, mask_class in (("accuracy", ""), ("iou", "vein")):
        wide, narrow = (found.score(name, mask_class).interval for found in (grouped, independent))
        assert width(wide) / width(narrow) == pytest.approx(2, rel=0.15)
        assert wide == pytest.approx(plain.score(name, mask_class).interval)
    assert grouped.sizes["classification"] == SampleSize(160, "groups", 40)
    assert independent.sizes["segmentation"] == SampleSize(160, "images", 160)


def vein_pairs() -> Any:
    """12 images of 64 px with a leaf (class 1) and a net of veins (class 2), of which some pixels are not found."""
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(12):
        truth = np.zeros((64, 64), np.uint8)
        truth[4:60, 4:60] = 1
        truth[8:57:16, 8:57], truth[8:57, 8 : 57 : int(rng.choice([8, 12, 16]))] = 2, 2
        predicted = np.where((truth == 2) & (rng.random(truth.shape) < 0.02), 1, truth)
        pairs.append(pair(truth=truth, predicted=predicted, group=f"plant {index // 2}"))
    return pairs


def test_topology_scores_are_of_thin_classes_alone_and_have_intervals_over_groups() -> None:
    pairs = vein_pairs()
    found = score_predictions(pairs, (), ("background", "leaf", "vein"))
    assert {score.mask_class for score in found.of_group("topology")} == {"vein"}
    assert found.sizes["topology"] == SampleSize(12, "groups", 6)
    masks = [(answer.mask == 2, sample.mask.numpy() == 2) for sample, answer in pairs]
    numbers = np.array([[*betti_numbers(predicted), *betti_numbers(truth)] for predicted, truth in masks])
    errors = np.abs(numbers[:, :2] - numbers[:, 2:])
    assert errors.min(1).max() > 0
    assert found.value("cldice", "vein") == pytest.approx(np.mean([cl_dice(*two) for two in masks]))
    assert (found.value("betti0_error", "vein"), found.value("betti1_error", "vein")) == pytest.approx(errors.mean(0))
    groups = np.arange(12) // 2
    expected = independent_interval(errors[:, 1], np.mean, groups)
    assert found.score("betti1_error", "vein").interval == pytest.approx(expected, abs=0.1 * width(expected))
    without = {score.name for score in found.of_group("topology") if not score.interval}
    assert without == {"boundary_f1", "centerline_recall", "centerline_precision"}  # all are 1


def test_without_a_thin_class_there_are_no_topology_scores() -> None:
    leaf = [pair(truth=np.pad(np.ones((40, 40)), 12), predicted=np.pad(np.ones((40, 40)), 12)) for _ in range(3)]
    found = score_predictions(leaf, (), ("leaf",))
    assert found.of_group("topology") == []
    assert found.sizes.keys() == {"segmentation"}


def test_an_image_without_a_group_is_a_group_by_itself() -> None:
    pairs = [pair(0, probs=[0.9, 0.1], group=group) for group in ("a", "a", None, "", "b")]
    assert score_predictions(pairs, ("x", "y"), ()).sizes == {"classification": SampleSize(5, "groups", 4)}


def test_the_order_of_images_changes_no_value() -> None:
    forth, back = (score_predictions(pairs, *NAMES) for pairs in (PAIRS, PAIRS[::-1]))
    for score, other in zip(forth.scores, back.scores, strict=True):
        assert replace(score, interval=None, method="bootstrap") == replace(other, interval=None, method="bootstrap")
    assert (forth.confusion, forth.reliability) == (back.confusion, back.reliability)


@pytest.mark.parametrize("right", [0, 4, 10])
@pytest.mark.parametrize("images_per_group", [1, 3])
def test_a_share_without_spread_has_wilsons_interval(right: int, images_per_group: int) -> None:
    """Ten plants, of each of which `right` of ten photos (or all three, or none) are correct."""
    photos = [number < right for number in range(10)] if right == 4 else [right == 10] * images_per_group
    pairs = [
        pair(0, probs=[0.9, 0.1] if correct else [0.1, 0.9], group=f"plant {plant}")
        for plant in range(10)
        for correct in photos
    ]
    score = score_predictions(pairs, ("a", "b"), ()).score("accuracy")
    expected = stats.binomtest(right, 10).proportion_ci(method="wilson")
    assert score.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert score.interval_text == f"{expected.low:.3f} to {expected.high:.3f}, Wilson"
    assert Score.from_dict(score.to_dict()) == score


def test_other_scores_without_spread_have_no_interval() -> None:
    found = score_predictions([pair(truth=[[1, 1, 0, 0]], predicted=[[1, 1, 0, 0]])] * 5, *NAMES)
    assert found.score("iou", "vein").interval is None


def test_one_image_has_no_interval() -> None:
    found = score_predictions(PAIRS[:1], *NAMES)
    assert [score.interval for score in found.scores] == [None] * len(found.scores)


def test_images_without_a_label_or_a_mask_count_where_they_can() -> None:
    extra = pair(truth=[[1, 1, 1, 1]], probs=[1, 0], predicted=[[1, 1, 1, 1]])
    found = score_predictions([*PAIRS, extra], *NAMES)
    assert found.images == 4
    assert {group: size.images for group, size in found.sizes.items()} == {"classification": 3, "segmentation": 4}


def test_a_mask_class_that_never_occurs_has_no_iou() -> None:
    score = score_predictions([PAIRS[1]], *NAMES).score("iou", "vein")
    assert (score.value, score.interval) == (None, None)


def test_a_mask_class_that_is_only_predicted_is_not_scored_and_named() -> None:
    truth, predicted = [[0, 1, 1, 0]], [[2, 1, 1, 0]]
    found = score_predictions([pair(truth=truth, predicted=predicted)] * 2, (), ("background", "leaf", "vein"))
    assert (found.value("iou", "vein"), found.value("dice_per_image", "vein")) == (None, None)
    assert found.value("iou", "leaf") == 1
    assert found.absent_mask_classes == ("vein",)
    assert found.absent_text == "Not scored, as no mask has a pixel of it: vein."


def test_without_labels_there_is_no_confusion_matrix() -> None:
    found = score_predictions([pair(truth=[[1, 0, 0, 0]], predicted=[[1, 0, 0, 0]])], *NAMES)
    assert (found.classes, found.confusion, found.reliability) == ((), [], ())
    assert found.of_group("classification") == []


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(DataError, match="no image with a label or a mask"):
        score_predictions([pair(probs=[1, 0])], *NAMES)
