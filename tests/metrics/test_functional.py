"""Every score equals torchmetrics' or a count by hand, whatever the batches."""

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce
from torchmetrics.functional.classification import (
    binary_jaccard_index,
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from mnsa.metrics import functional
from mnsa.metrics.functional import iou_upstream
from mnsa.structures import IGNORE_INDEX, NO_LABEL


@pytest.fixture
def masks():
    generator = torch.Generator().manual_seed(0)
    said = torch.randint(0, 3, (6, 17, 23), generator=generator)
    true = torch.where(torch.rand(6, 17, 23, generator=generator) < 0.6, said, torch.randint(0, 3, said.shape))
    return said, true


def test_pooled_iou_is_the_jaccard_index_of_all_pixels(masks):
    ours = functional.pooled_iou(functional.mask_counts(*masks, 3))
    theirs = multiclass_jaccard_index(*masks, num_classes=3, average="none")
    torch.testing.assert_close(ours.float(), theirs)


def test_iou_per_image_is_the_jaccard_index_of_each_image(masks):
    said, true = (mask.clamp(max=1) for mask in masks)
    ours = functional.image_iou(functional.mask_counts(said, true, 1))[:, 0]
    theirs = torch.stack([binary_jaccard_index(s, t) for s, t in zip(said, true, strict=True)])
    torch.testing.assert_close(ours.float(), theirs)


def test_dice_follows_from_iou(masks):
    counts = functional.mask_counts(*masks, 3)
    for iou, dice in (
        (functional.pooled_iou(counts), functional.pooled_dice(counts)),
        (functional.image_iou(counts), functional.image_dice(counts)),
    ):
        torch.testing.assert_close(dice, 2 * iou / (1 + iou))


def test_an_image_where_prediction_and_truth_are_empty_has_no_iou():
    counts = functional.mask_counts(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), 1)
    assert functional.image_iou(counts).isnan().all()


def test_pixels_of_unknown_truth_count_nowhere():
    truth = torch.full((1, 4, 4), IGNORE_INDEX)
    truth[0, 0] = 1
    counts = functional.mask_counts(torch.ones(1, 4, 4), truth, 1)
    assert counts.tolist() == [[[4, 4, 4]]]


@pytest.fixture
def answers():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 7, (80,), generator=generator)
    logits = torch.randn(80, 7, generator=generator) + 1.5 * torch.eye(7)[labels]
    return logits.softmax(1), labels


def test_class_scores_equal_torchmetrics(answers):
    probs, labels = answers
    confusion = functional.confusion_matrix(probs, labels)
    assert torch.equal(confusion, multiclass_confusion_matrix(probs, labels, 7))
    expected = {
        functional.accuracy: multiclass_accuracy(probs, labels, 7, average="micro"),
        functional.balanced_accuracy: multiclass_accuracy(probs, labels, 7, average="macro"),
        functional.macro_f1: multiclass_f1_score(probs, labels, 7, average="macro"),
    }
    for score, value in expected.items():
        assert score(confusion) == pytest.approx(float(value), abs=1e-6)
    top5 = multiclass_accuracy(probs, labels, 7, average="micro", top_k=5)
    assert functional.top_k_accuracy(probs, labels, 5) == pytest.approx(float(top5), abs=1e-6)


def test_top_5_of_three_classes_is_always_right():
    assert functional.top_k_accuracy(torch.eye(3), torch.tensor([0, 0, 0]), 5) == 1.0


def test_balanced_accuracy_leaves_out_classes_that_do_not_occur():
    confusion = torch.tensor([[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert functional.balanced_accuracy(confusion) == pytest.approx(0.75)


def validation_scores(batches):
    scores = functional.ValidationScores(mask_classes=3)
    for batch in batches:
        scores.update(*batch)
    return {name: float(value) for name, value in scores.compute().items()}


def test_validation_scores_depend_on_neither_batch_size_nor_order(answers, masks):
    said, true = masks
    logits, labels = answers[0][:6], answers[1][:6]
    whole = validation_scores([(logits, labels, said, true)])
    singly = validation_scores(
        [(logits[i : i + 1], labels[i : i + 1], said[i : i + 1], true[i : i + 1]) for i in (3, 0, 5, 1, 4, 2)]
    )
    assert whole == pytest.approx(singly)
    assert whole["score"] == pytest.approx((whole["accuracy"] + whole["iou"]) / 2)


def test_images_without_a_label_count_for_the_masks_alone(masks):
    said, true = masks
    scores = validation_scores([(torch.eye(6), torch.full((6,), NO_LABEL), said, true)])
    assert set(scores) == {"iou", "score"}


def test_the_background_is_no_part_of_the_mean_iou(masks):
    said, true = masks
    expected = multiclass_jaccard_index(said, true, num_classes=3, average="none")[1:].mean()
    assert validation_scores([(None, torch.zeros(6), said, true)])["iou"] == pytest.approx(float(expected))


def logits_of(mask):
    return torch.where(mask.bool(), 2.0, -2.0)[:, None]


def test_one_vein_pixel_counts_as_a_whole_block():
    masks = (torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0)) > 0.9).to(torch.uint8)
    blocks = torch.from_numpy(block_reduce(masks.numpy(), (1, 2, 2), np.max))
    assert iou_upstream([(logits_of(blocks), masks)]) == 1.0
    first = blocks.clone()
    first[1:] = 0
    expected = int(first.sum()) / int(blocks.sum())
    assert iou_upstream([(logits_of(first), masks)]) == pytest.approx(expected)


def test_empty_batches_count_as_perfect_and_the_mean_goes_over_batches():
    empty, full = torch.zeros(2, 8, 8, dtype=torch.uint8), torch.ones(1, 8, 8, dtype=torch.uint8)
    nothing, missed = (logits_of(empty[:, :4, :4]), empty), (logits_of(empty[:1, :4, :4]), full)
    assert iou_upstream([nothing, missed]) == 0.5
    together = (torch.cat([nothing[0], missed[0]]), torch.cat([empty, full]))
    assert iou_upstream([together]) == 0.0


def test_pixels_of_unknown_truth_are_background():
    masks = torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    assert iou_upstream([(logits_of(torch.zeros(1, 2, 2)), masks)]) == 1.0
