"""Every formula equals that of torchmetrics or scikit-learn, or a count by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_jaccard_index,
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from mnsa.metrics import functional
from mnsa.metrics.functional import ClassResults, mask_counts
from mnsa.structures import IGNORE_INDEX


@pytest.fixture
def masks() -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true masks (6, 17, 23) of three classes, equal in more than half of the pixels."""
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 3, (6, 17, 23)).astype(np.uint8)
    true = np.where(rng.random(predicted.shape) < 0.6, predicted, rng.integers(0, 3, predicted.shape)).astype(np.uint8)
    return predicted, true


def as_tensors(masks: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    predicted, true = (torch.from_numpy(mask).int() for mask in masks)
    return predicted, true


def test_pooled_iou_is_the_jaccard_index_of_all_pixels(masks: tuple[np.ndarray, np.ndarray]) -> None:
    expected = multiclass_jaccard_index(*as_tensors(masks), num_classes=3, average="none")
    assert functional.pooled_iou(mask_counts(*masks, 3)) == pytest.approx(expected.numpy())


def test_iou_per_image_is_the_jaccard_index_of_each_image(masks: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, true = (np.minimum(mask, 1) for mask in masks)
    counts = mask_counts(predicted, true, 1)[:, 0]
    pairs = zip(*as_tensors((predicted, true)), strict=True)
    expected = [binary_jaccard_index(p, t).item() for p, t in pairs]
    assert functional.iou(counts) == pytest.approx(expected)
    assert functional.mean_image_iou(counts) == pytest.approx(np.mean(expected))


def test_dice_follows_from_iou(masks: tuple[np.ndarray, np.ndarray]) -> None:
    counts = mask_counts(*masks, 3)
    for iou, dice in (
        (functional.pooled_iou(counts), functional.pooled_dice(counts)),
        (functional.iou(counts), functional.dice(counts)),
    ):
        np.testing.assert_allclose(dice, 2 * iou / (1 + iou))


def test_an_image_where_prediction_and_truth_are_empty_has_no_iou() -> None:
    counts = np.array([[0, 0, 0], [1, 2, 1], [0, 0, 3]])
    assert np.isnan(functional.iou(counts)).tolist() == [True, False, False]
    assert functional.mean_image_iou(counts) == pytest.approx((1 / 2 + 0) / 2)
    assert functional.mean_image_dice(counts) == pytest.approx((2 / 3 + 0) / 2)
    assert functional.images_empty(counts) == 1


def test_a_class_that_no_truth_has_is_not_scored(masks: tuple[np.ndarray, np.ndarray]) -> None:
    counts = mask_counts(masks[0], np.where(masks[1] == 2, 1, masks[1]), 3)
    assert functional.occurs(counts).tolist() == [True, True, False]
    assert np.isnan(functional.pooled_iou(counts)).tolist() == [False, False, True]
    assert np.isnan(functional.pooled_dice(counts)).tolist() == [False, False, True]
    assert np.isnan(functional.mean_image_iou(counts[:, 2]))
    assert np.isnan(functional.mean_image_dice(counts[:, 2]))


def test_without_a_pixel_there_is_no_pooled_iou() -> None:
    counts = np.zeros((1, 3), int)
    assert np.isnan(functional.pooled_iou(counts))


def test_pixels_of_unknown_truth_count_nowhere() -> None:
    truth = np.full((1, 4, 4), IGNORE_INDEX, np.uint8)
    truth[0, 0] = 1
    assert mask_counts(np.ones((1, 4, 4), np.uint8), truth, 1).tolist() == [[[4, 4, 4]]]


def test_a_single_mask_is_counted_without_a_batch_dimension(masks: tuple[np.ndarray, np.ndarray]) -> None:
    batch = mask_counts(*masks, 3)
    np.testing.assert_array_equal(mask_counts(masks[0][2], masks[1][2], 3), batch[2])
    assert batch.dtype == np.int64


def test_the_foreground_mean_leaves_the_background_out_unless_it_is_the_only_class() -> None:
    assert functional.foreground_mean(np.array([0.9, 0.5, np.nan, 0.1])) == pytest.approx(0.3)
    assert functional.foreground_mean(np.array([0.9])) == 0.9
    assert np.isnan(functional.foreground_mean(np.array([0.9, np.nan])))


@pytest.fixture
def predictions() -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (80, 7) and labels (80,)."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 7, (80,), generator=generator)
    logits = torch.randn(80, 7, generator=generator) + 1.5 * torch.eye(7)[labels]
    return logits.softmax(1), labels


def results_of(probs: Any, labels: Any) -> Any:
    return ClassResults.from_probs(probs.numpy(), labels.numpy())


def test_class_scores_equal_torchmetrics(predictions: tuple[torch.Tensor, torch.Tensor]) -> None:
    probs, labels = predictions
    results = results_of(probs, labels)
    np.testing.assert_array_equal(
        functional.confusion_matrix(results), multiclass_confusion_matrix(probs, labels, 7).numpy()
    )
    expected = {
        functional.accuracy: multiclass_accuracy(probs, labels, 7, average="micro"),
        functional.balanced_accuracy: multiclass_accuracy(probs, labels, 7, average="macro"),
        functional.macro_f1: multiclass_f1_score(probs, labels, 7, average="macro"),
        functional.top5_accuracy: multiclass_accuracy(probs, labels, 7, average="micro", top_k=5),
        functional.calibration_error: multiclass_calibration_error(probs, labels, 7, n_bins=15),
    }
    for score, value in expected.items():
        assert score(results) == pytest.approx(float(value), abs=1e-6)


def test_some_images_have_the_scores_of_their_rows(predictions: tuple[torch.Tensor, torch.Tensor]) -> None:
    probs, labels = predictions
    images = np.array([3, 3, 70, 5])
    taken, expected = results_of(probs, labels).take(images), results_of(probs[images], labels[images])
    for name in ("labels", "predicted", "confidence", "rank"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(expected, name))


def test_the_true_class_is_among_the_five_best_when_four_are_more_probable() -> None:
    probs = torch.tensor([[0.3, 0.25, 0.2, 0.15, 0.08, 0.02]]).expand(6, 6)
    results = results_of(probs, torch.arange(6))
    assert results.rank.tolist() == [0, 1, 2, 3, 4, 5]
    assert functional.top5_accuracy(results) == pytest.approx(5 / 6)


def test_equal_probabilities_are_ranked_in_the_order_of_the_classes() -> None:
    results = results_of(torch.full((6, 6), 1 / 6), torch.arange(6))
    assert results.rank.tolist() == [0, 1, 2, 3, 4, 5]
    assert results.correct.tolist() == [True, False, False, False, False, False]


def test_balanced_accuracy_leaves_out_classes_that_do_not_occur() -> None:
    results = ClassResults(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), np.ones(4), np.zeros(4), 3)
    assert functional.balanced_accuracy(results) == pytest.approx(0.75)
