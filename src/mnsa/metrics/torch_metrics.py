"""Metrics of tensors: the validation scores during training, and IoU as the upstream code computes it.

B batch; K classes; M mask classes; H, W mask size; h, w size of the mask logits.
"""

import logging
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mnsa.config import SelectBy
from mnsa.metrics.functional import foreground_mean, mask_counts, pooled_iou
from mnsa.metrics.topology import (
    TOPOLOGY_DTYPE,
    betti0_error,
    betti1_error,
    is_thin_class,
    mask_topology,
    mean_cl_dice,
)
from mnsa.structures import IGNORE_INDEX, NO_LABEL

UPSTREAM_BATCH_SIZE = 8  # of the upstream code; its score depends on it

# What is measured for a choice of `select_by`.
_TOPOLOGY = {
    "cldice": {"cldice": mean_cl_dice},
    "betti": {"betti0_error": betti0_error, "betti1_error": betti1_error},
}

logger = logging.getLogger(__name__)


class ValidationScores(Metric):
    """Accuracy and mean IoU over a validation pass, gathered over processes.

    An image without a label counts for the IoU alone, one without a mask for the accuracy alone. The mean IoU leaves
    out the background, and classes without a true pixel. select_by: what `score` is (`TrainConfig.select_by`); `cldice`
    and `betti` are measured only when they are asked for, at the size of the masks.
    """

    full_state_update = False
    counts: list[Tensor]
    correct: list[Tensor]
    topology: list[Tensor]

    def __init__(self, mask_classes: int, select_by: SelectBy = "auto") -> None:
        super().__init__()
        self.mask_classes = mask_classes
        self.select_by = select_by
        self.add_state("counts", default=[], dist_reduce_fx="cat")
        self.add_state("correct", default=[], dist_reduce_fx="cat")
        self.add_state("topology", default=[], dist_reduce_fx="cat")
        self._has_warned = False

    def update(self, class_logits: Tensor | None, labels: Tensor, mask: Tensor | None, truth: Tensor) -> None:
        """Add one batch: class_logits (B, K), labels (B,), mask and truth (B, H, W) as class indices."""
        if class_logits is not None:
            known = labels != NO_LABEL
            self.correct.append((class_logits.argmax(1) == labels)[known].double())
        if mask is not None:
            predicted, true = (indices.to(torch.uint8).cpu().numpy() for indices in (mask, truth))
            counts = mask_counts(predicted, true, self.mask_classes)
            self.counts.append(torch.from_numpy(counts).to(mask.device))
            if self.select_by in _TOPOLOGY:
                pairs = zip(predicted, true, strict=True)
                rows = np.stack([mask_topology(*pair, self.mask_classes) for pair in pairs])  # (B, M)
                numbers = rows.view(np.float64).reshape(*rows.shape, -1)
                self.topology.append(torch.from_numpy(numbers).to(mask.device))

    def compute(self) -> dict[str, Tensor]:
        """`accuracy` and `iou` (those that were updated), `cldice` or `betti0_error` and `betti1_error`, and `score`.

        `score` selects the best epoch: what `select_by` says, or, where that was not updated, the mean of accuracy and
        IoU. Without a thin mask class the IoU takes the place of `cldice` and `betti`.
        """
        scores = {}  # the states are lists here, and tensors after processes have gathered them
        if len(self.correct) > 0 and (correct := dim_zero_cat(self.correct)).numel():
            scores["accuracy"] = correct.mean()
        if len(self.counts) > 0 and (counts := dim_zero_cat(self.counts)).sum() > 0:
            iou = foreground_mean(pooled_iou(counts.cpu().numpy()))
            if not math.isnan(iou):
                scores["iou"] = torch.tensor(iou, dtype=torch.float64, device=counts.device)
        if not scores:
            return {"score": torch.tensor(0.0)}  # a checkpoint needs one
        selected = torch.stack(list(scores.values())).mean()
        if self.select_by != "auto":
            selected = scores.get("iou" if self.select_by in _TOPOLOGY else self.select_by, selected)
        if len(self.topology) > 0 and "iou" in scores:
            measured = self._score_topology(dim_zero_cat(self.topology))
            scores |= measured
            if self.select_by in measured:
                selected = measured["cldice"]
            elif measured:
                selected = 1 / (1 + measured["betti0_error"] + measured["betti1_error"])
        return {**scores, "score": selected}

    def _score_topology(self, numbers: Tensor) -> dict[str, Tensor]:
        """Means over the thin mask classes of (N, M, numbers of `ImageTopology`); empty when there is none."""
        rows = numbers.cpu().numpy().view(TOPOLOGY_DTYPE)[..., 0]
        thin = [one for one in rows.T if is_thin_class(one)]
        if not thin:
            if not self._has_warned:
                logger.warning(
                    "train.select_by = %r is for thin mask classes such as veins, and the validation masks have none. "
                    "The IoU selects the best epoch.", self.select_by,
                )  # fmt: skip
            self._has_warned = True
            return {}
        values = {name: np.mean([score(one) for one in thin]) for name, score in _TOPOLOGY[self.select_by].items()}
        return {name: torch.tensor(value, dtype=torch.float64, device=numbers.device) for name, value in values.items()}


def iou_upstream(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Mean over batches of the batch's IoU at the resolution of the logits.

    It is too high: don't report it as a result. batches: mask_logits (B, 1, h, w) and masks (B, H, W) of 0 and 1. Three
    things make it differ from IoU: each mask is resized bilinearly and every pixel above 0 counts as vein, which
    thickens veins to whole 2 x 2 blocks; a batch in which prediction and mask are both empty counts as 1; and the mean
    over batches depends on their size and order. Pixels of unknown truth count as background. Source: method section 5,
    mistake 2.
    """
    scores = []
    for mask_logits, masks in batches:
        predicted = mask_logits[:, 0] > 0
        veins = ((masks > 0) & (masks != IGNORE_INDEX))[:, None].float()
        truth = F.interpolate(veins, predicted.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
        union = (predicted | truth).sum()
        scores.append((predicted & truth).sum() / union if union > 0 else torch.tensor(1.0))
    return float(torch.stack(scores).double().mean())
