"""Metrics as formulas of pixel and image counts, so that no value depends on batch size or order.

N images; K classes; M mask classes; B batch; H, W mask size; h, w size of the mask logits.
Mask counts are (N, M, 3): true positives, predicted pixels, true pixels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mnsa.structures import IGNORE_INDEX, NO_LABEL


def mask_counts(predicted: Tensor, truth: Tensor, mask_classes: int) -> Tensor:
    """Count pixels per image and mask class.

    predicted, truth: class indices (N, H, W); pixels whose truth is NO_MASK are left out. With one mask class,
    index 1 is that class; with several, index m is class m. Returns: int64 (N, M, 3).
    """
    indices = [1] if mask_classes == 1 else list(range(mask_classes))
    known = truth != IGNORE_INDEX
    per_class = []
    for index in indices:
        predicted_px, true = (predicted == index) & known, truth == index
        per_class.append(
            torch.stack([(predicted_px & true).sum((1, 2)), predicted_px.sum((1, 2)), true.sum((1, 2))], dim=-1)
        )
    return torch.stack(per_class, dim=1)


def pooled_iou(counts: Tensor) -> Tensor:
    """Intersection over union of all images' pixels taken together: (M,); NaN where neither has a pixel."""
    both, predicted_px, true = counts.sum(0).double().unbind(-1)
    return both / (predicted_px + true - both)


def pooled_dice(counts: Tensor) -> Tensor:
    """Dice coefficient of all images' pixels taken together: (M,); NaN where neither has a pixel."""
    both, predicted_px, true = counts.sum(0).double().unbind(-1)
    return 2 * both / (predicted_px + true)


def image_iou(counts: Tensor) -> Tensor:
    """Intersection over union of each image: (N, M); NaN where prediction and truth are both empty."""
    both, predicted_px, true = counts.double().unbind(-1)
    return both / (predicted_px + true - both)


def image_dice(counts: Tensor) -> Tensor:
    """Dice coefficient of each image: (N, M); NaN where prediction and truth are both empty."""
    both, predicted_px, true = counts.double().unbind(-1)
    return 2 * both / (predicted_px + true)


def confusion_matrix(probs: Tensor, labels: Tensor) -> Tensor:
    """Count of images per true class (row) and most probable class (column): int64 (K, K)."""
    classes = probs.shape[1]
    return torch.bincount(labels * classes + probs.argmax(1), minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: Tensor) -> float:
    """Share of images given their own class."""
    return float(confusion.diagonal().sum() / confusion.sum())


def balanced_accuracy(confusion: Tensor) -> float:
    """Mean recall over the classes that occur."""
    support = confusion.sum(1)
    return float((confusion.diagonal()[support > 0] / support[support > 0]).mean())


def macro_f1(confusion: Tensor) -> float:
    """Mean F1 over the classes that occur or are predicted."""
    counted = confusion.sum(0) + confusion.sum(1)
    return float((2 * confusion.diagonal()[counted > 0] / counted[counted > 0]).mean())


def top_k_accuracy(probs: Tensor, labels: Tensor, k: int) -> float:
    """Share of images whose class is among the k most probable."""
    best = probs.topk(min(k, probs.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(1).double().mean())


class ValidationScores(Metric):
    """Accuracy and mean IoU over a validation pass, gathered over processes.

    One unlabeled image, or one without a mask, counts only where it can. The mean IoU leaves the background out.
    """

    full_state_update = False
    counts: list[Tensor]
    correct: list[Tensor]

    def __init__(self, mask_classes: int) -> None:
        super().__init__()
        self.mask_classes = mask_classes
        self.add_state("counts", default=[], dist_reduce_fx="cat")
        self.add_state("correct", default=[], dist_reduce_fx="cat")

    def update(self, class_logits: Tensor | None, labels: Tensor, mask: Tensor | None, truth: Tensor) -> None:
        """Take one batch: class_logits (B, K), labels (B,), mask and truth (B, H, W) as class indices."""
        if class_logits is not None:
            known = labels != NO_LABEL
            self.correct.append((class_logits.argmax(1) == labels)[known].double())
        if mask is not None:
            self.counts.append(mask_counts(mask, truth, self.mask_classes))

    def compute(self) -> dict[str, Tensor]:
        """`accuracy` and `iou` (whichever was fed), and `score`, their mean: what validation chooses by."""
        scores = {}  # the states are lists here, and tensors once processes have gathered them
        if len(self.correct) > 0 and (correct := dim_zero_cat(self.correct)).numel():
            scores["accuracy"] = correct.mean()
        if len(self.counts) > 0 and (counts := dim_zero_cat(self.counts)).sum() > 0:
            foreground = counts if self.mask_classes == 1 else counts[:, 1:]
            scores["iou"] = pooled_iou(foreground).nanmean()
        if scores:
            scores["score"] = torch.stack(list(scores.values())).mean()
        return scores


UPSTREAM_BATCH_SIZE = 8  # the released code's, which its figure depends on


def iou_upstream(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Mean over batches of the batch's IoU at the logits' resolution. Don't report it as your result: it flatters.

    batches: mask_logits (B, 1, h, w) and masks (B, H, W) of 0 and 1. Three things make it differ from IoU: each mask
    is shrunk bilinearly and every pixel above 0 counts as vein, which thickens veins to whole 2 x 2 blocks; a batch
    in which prediction and mask are both empty counts as 1; and the mean over batches depends on their size and order.
    Pixels of unknown truth count as background. Source: method section 5, mistake 2.
    """
    scores = []
    for mask_logits, masks in batches:
        predicted = mask_logits[:, 0] > 0
        veins = ((masks > 0) & (masks != IGNORE_INDEX))[:, None].float()
        truth = F.interpolate(veins, predicted.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
        union = (predicted | truth).sum()
        scores.append((predicted & truth).sum() / union if union > 0 else torch.tensor(1.0))
    return float(torch.stack(scores).double().mean())
