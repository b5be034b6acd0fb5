"""What is kept of one answer, and which images are the worst and the best."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from mnsa.metrics.per_image import image_columns, image_row, worst_and_best
from mnsa.structures import NO_LABEL, Prediction, Sample

CLASSES = ("oak", "elm", "ash")


def sample(label, mask=None):
    return Sample("a.jpg", torch.zeros(3, 2, 4, dtype=torch.uint8), mask, label)


def answer(probs=None, mask=None):
    return Prediction("a.jpg", None if probs is None else np.array(probs, np.float32), mask, None)


def test_a_row_names_both_classes_with_their_probabilities():
    row = image_row(sample(2), answer([0.1, 0.7, 0.2]), CLASSES, ())
    assert (row["image"], row["label"], row["predicted"]) == ("a.jpg", "ash", "elm")
    assert (row["probability"], row["true_probability"]) == pytest.approx((0.7, 0.2))
    assert row["top5"] == "elm 0.7000; ash 0.2000; oak 0.1000"
    assert list(row) == ["image", "label", "predicted", "probability", "top5", "true_probability"]
    assert set(row) == set(image_columns(CLASSES, ()))


def test_an_image_without_a_label_has_no_true_probability():
    row = image_row(sample(NO_LABEL), answer([0.1, 0.7, 0.2]), CLASSES, ())
    assert "true_probability" not in row
    assert "label" not in row


def test_the_iou_of_an_image_is_torchmetrics_and_leaves_the_background_out():
    drawn = torch.Generator().manual_seed(3)
    truth, predicted = (torch.randint(0, 3, (8, 9), generator=drawn, dtype=torch.uint8) for _ in range(2))
    names = ("background", "leaf", "rust")
    row = image_row(sample(NO_LABEL, truth), answer(mask=predicted.numpy()), (), names)
    expected = multiclass_jaccard_index(predicted.int(), truth.int(), 3, average="none")
    assert [row[f"iou_{name}"] for name in names] == pytest.approx(expected.tolist())
    assert row["iou"] == pytest.approx(expected[1:].mean().item())
    assert list(row) == image_columns((), names)


def test_an_iou_that_does_not_exist_is_left_out():
    nothing = torch.zeros(2, 4, dtype=torch.uint8)
    assert image_row(sample(NO_LABEL, nothing), answer(mask=nothing.numpy()), (), ("vein",)) == {"image": "a.jpg"}


def test_the_worst_come_worst_first_and_the_best_best_first():
    found = worst_and_best([0.5, None, 0.9, 0.1, 0.3, 0.8, 0.2, 0.7, 0.6, 0.4, 1.0])
    assert found.worst == [3, 6, 4, 9, 0, 8]
    assert found.best == [10, 2, 5]


@pytest.mark.parametrize("count", range(6))
def test_no_image_is_among_both(count):
    found = worst_and_best([float(value) for value in range(count)])
    assert sorted(found.worst + found.best) == list(range(count))
