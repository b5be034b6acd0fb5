"""What evaluate says of a handful of answers can be counted by hand."""

import numpy as np
import pytest
import torch

from mnsa.errors import DataError
from mnsa.evaluation.evaluate import evaluate
from mnsa.records import NO_LABEL, Prediction, Sample


def pair(label=NO_LABEL, truth=None, probs=None, said=None):
    mask, said = (None if rows is None else np.array(rows, np.uint8) for rows in (truth, said))
    sample = Sample("leaf.png", torch.zeros(3, 1, 4), None if mask is None else torch.from_numpy(mask), label)
    return sample, Prediction("leaf.png", None if probs is None else np.array(probs, np.float32), said, None)


PAIRS = [
    pair(0, [[1, 1, 0, 0]], [0.9, 0.1], [[1, 0, 0, 0]]),  # right; IoU 1/2
    pair(1, [[0, 0, 0, 0]], [0.8, 0.2], [[0, 0, 0, 0]]),  # wrong; both masks empty
    pair(1, [[0, 0, 1, 1]], [0.3, 0.7], [[0, 0, 1, 1]]),  # right; IoU 1
]


def test_scores_are_what_counting_by_hand_gives():
    scores = evaluate(PAIRS, ("a", "b"), ("vein",))
    classes, vein = scores["classification"], scores["segmentation"]["classes"]["vein"]
    assert classes["accuracy"] == pytest.approx(2 / 3)
    assert classes["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert classes["confusion"] == [[1, 0], [1, 1]]
    assert vein["iou"] == pytest.approx(3 / 4)
    assert vein["iou_per_image"] == pytest.approx((1 / 2 + 1) / 2)
    assert vein["dice"] == pytest.approx(6 / 7)
    assert vein["images_empty"] == 1


def test_the_order_of_images_changes_nothing():
    forth, back = (evaluate(pairs, ("a", "b"), ("vein",)) for pairs in (PAIRS, PAIRS[::-1]))
    for task in ("classification", "segmentation"):
        for scores in (forth, back):
            scores[task].pop("accuracy_interval", None)
            scores[task].get("classes") and task == "segmentation" and scores[task]["classes"]["vein"].pop(
                "iou_interval"
            )
    assert forth == back


def test_images_without_a_label_or_a_mask_count_where_they_can():
    scores = evaluate([*PAIRS, pair(truth=[[1, 1, 1, 1]], probs=[1, 0], said=[[1, 1, 1, 1]])], ("a", "b"), ("vein",))
    assert (scores["images"], scores["classification"]["images"], scores["segmentation"]["images"]) == (4, 3, 4)


def test_a_class_that_never_occurs_has_no_iou():
    scores = evaluate([PAIRS[1]], ("a", "b"), ("vein",))
    assert scores["segmentation"]["classes"]["vein"]["iou"] is None


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="no image with a label or a mask"):
        evaluate([pair(probs=[1, 0])], ("a", "b"), ("vein",))
