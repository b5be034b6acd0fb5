"""Validation scores depend on no batch; the upstream IoU is what the upstream code computes."""

from typing import Any

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from mnsa.metrics.topology import betti_numbers, cl_dice
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


def test_a_class_that_no_mask_has_is_left_out_of_the_mean(batch: Any) -> None:
    _, labels, predicted, true = batch
    true = torch.where(true == 2, 1, true)
    iou = multiclass_jaccard_index(predicted, true, num_classes=3, average="none")[1]
    assert (predicted == 2).any()
    assert validation_scores([(None, labels, predicted, true)])["score"] == pytest.approx(float(iou))


def test_masks_of_background_alone_give_no_iou_and_a_score(batch: Any) -> None:
    logits, labels, predicted, true = batch
    assert validation_scores([(logits, labels, predicted, 0 * true)]).keys() == {"accuracy", "score"}
    assert validation_scores([(None, labels, predicted, 0 * true)]) == {"score": 0}


@pytest.fixture
def veins() -> Any:
    """Class logits (6, 7), labels, and masks (6, 64, 64) of a leaf (1) and its veins (2), partly lost."""
    generator = torch.Generator().manual_seed(1)
    true = torch.zeros(6, 64, 64, dtype=torch.long)
    true[:, 4:60, 4:60] = 1
    true[:, 8:57:16, 8:57] = true[:, 8:57, 8:57:12] = 2
    lost = (true == 2) & (torch.rand(true.shape, generator=generator) < 0.03)
    return torch.randn(6, 7, generator=generator), torch.arange(6), torch.where(lost, 1, true), true


def selecting(select_by: Any, *batches: Any, mask_classes: int = 3) -> Any:
    scores = ValidationScores(mask_classes, select_by)
    for batch in batches:
        scores.update(*batch)
    return {name: float(value) for name, value in scores.compute().items()}


def vein_errors(veins: Any) -> Any:
    pairs = [(predicted.numpy() == 2, true.numpy() == 2) for predicted, true in zip(*veins[2:], strict=True)]
    numbers = np.array([[*betti_numbers(predicted), *betti_numbers(true)] for predicted, true in pairs])
    return pairs, np.abs(numbers[:, :2] - numbers[:, 2:]).mean(0)


def test_the_score_is_what_selects(veins: Any) -> None:
    pairs, (betti0, betti1) = vein_errors(veins)
    found = {name: selecting(name, veins) for name in ("auto", "accuracy", "iou", "cldice", "betti")}
    auto = found["auto"]
    assert auto["score"] == pytest.approx((auto["accuracy"] + auto["iou"]) / 2)
    assert found["accuracy"]["score"] == auto["accuracy"]
    assert found["iou"]["score"] == auto["iou"]
    expected = np.mean([cl_dice(*pair) for pair in pairs])
    assert found["cldice"]["score"] == found["cldice"]["cldice"] == pytest.approx(expected)
    assert (found["betti"]["betti0_error"], found["betti"]["betti1_error"]) == pytest.approx((betti0, betti1))
    assert found["betti"]["score"] == pytest.approx(1 / (1 + betti0 + betti1))
    assert betti0 > 0
    assert betti1 > 0


def test_topology_is_measured_only_when_it_selects(veins: Any) -> None:
    assert selecting("iou", veins).keys() == {"accuracy", "iou", "score"}
    assert selecting("cldice", veins).keys() == {"accuracy", "iou", "cldice", "score"}


@pytest.mark.parametrize("select_by", ["cldice", "betti"])
def test_topology_that_processes_have_gathered_is_that_of_all_images(veins: Any, select_by: Any) -> None:
    together = selecting(select_by, veins)
    parts = [ValidationScores(3, select_by) for _ in range(2)]
    for part, images in zip(parts, (slice(0, 2), slice(2, 6)), strict=True):
        part.update(*(values[images] for values in veins))
    for state in ("counts", "correct", "topology"):
        setattr(parts[0], state, torch.cat([one for part in parts for one in getattr(part, state)]))
    assert {name: float(value) for name, value in parts[0].compute().items()} == pytest.approx(together)


def test_without_the_task_that_selects_the_stage_is_selected_by_its_own(veins: Any) -> None:
    logits, labels, predicted, true = veins
    for select_by in ("iou", "cldice", "betti"):
        found = selecting(select_by, (logits, labels, None, true))
        assert found["score"] == found["accuracy"]
    found = selecting("accuracy", (None, labels, predicted, true))
    assert found["score"] == found["iou"]


def test_without_a_thin_class_the_iou_selects_and_a_warning_says_so(
    veins: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logits, labels, predicted, true = veins
    scores = ValidationScores(1, "cldice")
    for _ in range(2):
        scores.update(logits, labels, (predicted > 0).long(), (true > 0).long())
        found = scores.compute()
        assert found["score"] == found["iou"]
        scores.reset()
    assert [record.getMessage() for record in caplog.records] == [
        "train.select_by = 'cldice' is for thin mask classes such as veins, and the validation masks have none. "
        "The IoU selects the best epoch."
    ]


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
