"""Scores, as closed formulas of counts, so that no number depends on batch size or order.

N images; K classes; M mask classes. Mask counts are (N, M, 3): true positives, predicted pixels, true pixels.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mnsa.records import NO_LABEL, NO_MASK


def mask_counts(predicted: Tensor, truth: Tensor, mask_classes: int) -> Tensor:
    """Count pixels per image and mask class.

    predicted, truth: class indices (N, H, W); pixels whose truth is NO_MASK are left out. With one mask class,
    index 1 is that class; with several, index m is class m. Returns: int64 (N, M, 3).
    """
    indices = [1] if mask_classes == 1 else list(range(mask_classes))
    known = truth != NO_MASK
    per_class = []
    for index in indices:
        said, true = (predicted == index) & known, truth == index
        per_class.append(torch.stack([(said & true).sum((1, 2)), said.sum((1, 2)), true.sum((1, 2))], dim=-1))
    return torch.stack(per_class, dim=1)


def pooled_iou(counts: Tensor) -> Tensor:
    """Intersection over union of all images' pixels taken together: (M,); NaN where neither has a pixel."""
    both, said, true = counts.sum(0).double().unbind(-1)
    return both / (said + true - both)


def pooled_dice(counts: Tensor) -> Tensor:
    """Dice coefficient of all images' pixels taken together: (M,); NaN where neither has a pixel."""
    both, said, true = counts.sum(0).double().unbind(-1)
    return 2 * both / (said + true)


def image_iou(counts: Tensor) -> Tensor:
    """Intersection over union of each image: (N, M); NaN where prediction and truth are both empty."""
    both, said, true = counts.double().unbind(-1)
    return both / (said + true - both)


def image_dice(counts: Tensor) -> Tensor:
    """Dice coefficient of each image: (N, M); NaN where prediction and truth are both empty."""
    both, said, true = counts.double().unbind(-1)
    return 2 * both / (said + true)


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

    One unlabelled image, or one without a mask, counts only where it can. The mean IoU leaves the background out.
    """

    full_state_update = False
    counts: list[Tensor]
    right: list[Tensor]

    def __init__(self, mask_classes: int) -> None:
        super().__init__()
        self.mask_classes = mask_classes
        self.add_state("counts", default=[], dist_reduce_fx="cat")
        self.add_state("right", default=[], dist_reduce_fx="cat")

    def update(self, class_logits: Tensor | None, labels: Tensor, mask: Tensor | None, truth: Tensor) -> None:
        """Take one batch: class_logits (B, K), labels (B,), mask and truth (B, H, W) as class indices."""
        if class_logits is not None:
            known = labels != NO_LABEL
            self.right.append((class_logits.argmax(1) == labels)[known].double())
        if mask is not None:
            self.counts.append(mask_counts(mask, truth, self.mask_classes))

    def compute(self) -> dict[str, Tensor]:
        """`accuracy` and `iou` (whichever was fed), and `score`, their mean: what validation chooses by."""
        scores = {}  # the states are lists here, and tensors once processes have gathered them
        if len(self.right) > 0 and (right := dim_zero_cat(self.right)).numel():
            scores["accuracy"] = right.mean()
        if len(self.counts) > 0 and (counts := dim_zero_cat(self.counts)).sum() > 0:
            foreground = counts if self.mask_classes == 1 else counts[:, 1:]
            scores["iou"] = pooled_iou(foreground).nanmean()
        if scores:
            scores["score"] = torch.stack(list(scores.values())).mean()
        return scores
