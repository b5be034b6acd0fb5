"""The bootstrap interval covers what theory says it covers."""

import math

import numpy as np
import pytest
import torch

from mnsa.errors import DataError
from mnsa.metrics.scoring import bootstrap_interval, score_predictions
from mnsa.structures import NO_LABEL, Prediction, Sample


def test_the_interval_of_a_mean_is_the_normal_one_for_many_images():
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    low, high = bootstrap_interval(lambda drawn: float(values[drawn].mean()), len(values))
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_same_images_give_the_same_interval():
    values = np.arange(10.0)
    first, second = (bootstrap_interval(lambda drawn: float(values[drawn].mean()), 10) for _ in range(2))
    assert first == second


def test_a_score_that_never_exists_has_no_interval():
    assert all(math.isnan(bound) for bound in bootstrap_interval(lambda drawn: math.nan, 5))


def pair(label=NO_LABEL, truth=None, probs=None, predicted=None):
    mask, predicted = (None if rows is None else np.array(rows, np.uint8) for rows in (truth, predicted))
    sample = Sample("leaf.png", torch.zeros(3, 1, 4), None if mask is None else torch.from_numpy(mask), label)
    return sample, Prediction("leaf.png", None if probs is None else np.array(probs, np.float32), predicted, None)


PAIRS = [
    pair(0, [[1, 1, 0, 0]], [0.9, 0.1], [[1, 0, 0, 0]]),  # right; IoU 1/2
    pair(1, [[0, 0, 0, 0]], [0.8, 0.2], [[0, 0, 0, 0]]),  # wrong; both masks empty
    pair(1, [[0, 0, 1, 1]], [0.3, 0.7], [[0, 0, 1, 1]]),  # right; IoU 1
]


def test_scores_are_what_counting_by_hand_gives():
    scores = score_predictions(PAIRS, ("a", "b"), ("vein",))
    classes, vein = scores["classification"], scores["segmentation"]["classes"]["vein"]
    assert classes["accuracy"] == pytest.approx(2 / 3)
    assert classes["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert classes["confusion"] == [[1, 0], [1, 1]]
    assert vein["iou"] == pytest.approx(3 / 4)
    assert vein["iou_per_image"] == pytest.approx((1 / 2 + 1) / 2)
    assert vein["dice"] == pytest.approx(6 / 7)
    assert vein["images_empty"] == 1


def test_the_order_of_images_changes_nothing():
    forth, back = (score_predictions(pairs, ("a", "b"), ("vein",)) for pairs in (PAIRS, PAIRS[::-1]))
    for task in ("classification", "segmentation"):
        for scores in (forth, back):
            scores[task].pop("accuracy_interval", None)
            scores[task].get("classes") and task == "segmentation" and scores[task]["classes"]["vein"].pop(
                "iou_interval"
            )
    assert forth == back


def test_images_without_a_label_or_a_mask_count_where_they_can():
    scores = score_predictions(
        [*PAIRS, pair(truth=[[1, 1, 1, 1]], probs=[1, 0], predicted=[[1, 1, 1, 1]])], ("a", "b"), ("vein",)
    )
    assert (scores["images"], scores["classification"]["images"], scores["segmentation"]["images"]) == (4, 3, 4)


def test_a_class_that_never_occurs_has_no_iou():
    scores = score_predictions([PAIRS[1]], ("a", "b"), ("vein",))
    assert scores["segmentation"]["classes"]["vein"]["iou"] is None


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="no image with a label or a mask"):
        score_predictions([pair(probs=[1, 0])], ("a", "b"), ("vein",))
