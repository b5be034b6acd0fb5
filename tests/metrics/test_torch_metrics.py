"""Validation scores depend on no batch; the upstream IoU is what the upstream code computes."""

from typing import Any

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from mnsa.metrics.torch_metrics import ValidationScores, iou_upstream
from mnsa.structures import IGNORE_INDEX, NO_LABEL


@pytest.fixture
def batch() -> Any:
    """Class logits (6, 7), labels (6,), and predicted and true masks (6, 17, 23) of three classes."""
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(0, 3, (6, 17, 23), generator=generator)
    other = torch.randint(0, 3, predicted.shape, generator=generator)
    true = torch.where(torch.rand(6, 17, 23, generator=generator) < 0.6, predicted, other)
    return torch.randn(6, 7, generator=generator), torch.tensor([0, 1, 2, 3, 4, 4]), predicted, true


def validation_scores(batches: Any) -> Any:
    scores = ValidationScores(mask_classes=3)
    for batch in batches:
        scores.update(*batch)
    return {name: float(value) for name, value in scores.compute().items()}


def test_validation_scores_are_torchmetrics_without_the_background(batch: Any) -> None:
    logits, labels, predicted, true = batch
    found = validation_scores([batch])
    iou = multiclass_jaccard_index(predicted, true, num_classes=3, average="none")[1:].mean()
    accuracy = multiclass_accuracy(logits, labels, 7, average="micro")
    assert (found["accuracy"], found["iou"]) == pytest.approx((float(accuracy), float(iou)))
    assert found["score"] == pytest.approx((found["accuracy"] + found["iou"]) / 2)


def test_validation_scores_depend_on_neither_batch_size_nor_order(batch: Any) -> None:
    singly = [tuple(value[i : i + 1] for value in batch) for i in (3, 0, 5, 1, 4, 2)]
    assert validation_scores([batch]) == pytest.approx(validation_scores(singly))


def test_images_without_a_label_count_for_the_masks_alone(batch: Any) -> None:
    logits, labels, predicted, true = batch
    assert validation_scores([(logits, torch.full_like(labels, NO_LABEL), predicted, true)]).keys() == {"iou", "score"}


def test_images_without_a_mask_count_for_the_classes_alone(batch: Any) -> None:
    logits, labels, predicted, true = batch
    unknown = torch.full_like(true, IGNORE_INDEX)
    assert validation_scores([(logits, labels, predicted, unknown)]).keys() == {"accuracy", "score"}


def logits_of(mask: Any) -> Any:
    return torch.where(mask.bool(), 2.0, -2.0)[:, None]


def test_in_the_upstream_iou_one_vein_pixel_counts_as_a_whole_block() -> None:
    masks = (torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0)) > 0.9).to(torch.uint8)
    blocks = torch.from_numpy(block_reduce(masks.numpy(), (1, 2, 2), np.max))
    assert iou_upstream([(logits_of(blocks), masks)]) == 1.0
    first = blocks.clone()
    first[1:] = 0
    expected = int(first.sum()) / int(blocks.sum())
    assert iou_upstream([(logits_of(first), masks)]) == pytest.approx(expected)


def test_in_the_upstream_iou_empty_batches_are_perfect_and_the_mean_goes_over_batches() -> None:
    empty, full = torch.zeros(2, 8, 8, dtype=torch.uint8), torch.ones(1, 8, 8, dtype=torch.uint8)
    correct, missed = (logits_of(empty[:, :4, :4]), empty), (logits_of(empty[:1, :4, :4]), full)
    assert iou_upstream([correct, missed]) == 0.5
    together = (torch.cat([correct[0], missed[0]]), torch.cat([empty, full]))
    assert iou_upstream([together]) == 0.0


def test_in_the_upstream_iou_pixels_of_unknown_truth_are_background() -> None:
    masks = torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    assert iou_upstream([(logits_of(torch.zeros(1, 2, 2)), masks)]) == 1.0
