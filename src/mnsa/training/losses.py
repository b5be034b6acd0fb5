"""Loss functions.

B batch; K classes; M mask classes; H, W size of the masks; h, w size of the mask logits. Images without a label or a
mask add nothing to a loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.structures import IGNORE_INDEX, NO_LABEL

# Deep supervision: weights of the losses of the output and of `side_loss`. Source: method section 1.
OUTPUT_WEIGHT, SIDES_WEIGHT = 0.95, 0.1


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Compute the cross-entropy of logits (B, K) and labels (B,); class weights (K,) or None. 0 without any label."""
    if bool((labels == NO_LABEL).all()):
        return logits.sum() * 0.0  # every parameter stays in the graph: DDP waits for all gradients
    weight = None if weights is None else weights.to(logits)
    return F.cross_entropy(logits, labels, weight, ignore_index=NO_LABEL, label_smoothing=label_smoothing)


def mask_targets(masks: Tensor, size: tuple[int, int], mask_classes: int) -> tuple[Tensor, Tensor]:
    """Resize masks (B, H, W) to `size` (h, w): targets (B, M, h, w) in 0..1 and valid (B, 1, h, w), both float.

    A target is the fraction of the pixel's area that the class covers, so thin structures are neither widened nor lost.
    valid: 1 where at least a part of the pixel is not IGNORE_INDEX, else 0.
    """
    valid = (masks != IGNORE_INDEX)[:, None].float()
    if mask_classes == 1:
        targets = (masks == 1)[:, None].float()
    else:
        targets = F.one_hot(masks.where(masks != IGNORE_INDEX, 0), mask_classes).movedim(-1, 1).float() * valid
    if masks.shape[-2:] == size:
        return targets, valid
    valid_fraction = F.adaptive_avg_pool2d(valid, size)
    area_fractions = F.adaptive_avg_pool2d(targets, size) / valid_fraction.clamp(min=1e-6)
    return area_fractions, (valid_fraction > 0).float()


def pixel_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean cross-entropy over valid pixels: binary for one mask class, softmax for several."""
    if logits.shape[1] == 1:
        per_pixel = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    else:
        per_pixel = -(targets * logits.log_softmax(1)).sum(1, keepdim=True)
    return (per_pixel * valid).sum() / valid.sum().clamp(min=1.0)


def dice_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Compute 1 - soft Dice over all valid pixels of the batch, averaged over the mask classes present in it.

    Source: F. Milletari et al., "V-Net", 3DV 2016, with sums instead of squares in the denominator.
    """
    probs = (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)) * valid
    targets = targets * valid
    overlap, total = (probs * targets).sum((0, 2, 3)), (probs + targets).sum((0, 2, 3))
    present = (targets.sum((0, 2, 3)) > 0).to(probs)
    losses = 1 - 2 * overlap / total.clamp(min=1e-6)
    return (losses * present).sum() / present.sum().clamp(min=1.0)


def side_loss(side_logits: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Compute the binary cross-entropy of the side logits (B, 1, h, w) of levels l = 2..5, weighted by 1 / 2^l.

    Every class but 0 is foreground, because a side logit is one number per pixel. Source: method section 1, deep
    supervision.
    """
    losses = []
    for level, logits in enumerate(side_logits, start=2):
        targets, valid = _foreground_targets(masks, logits)
        losses.append(pixel_loss(logits.float(), targets, valid) / 2**level)
    return torch.stack(losses).sum()


def guidance_loss(attention: Tensor, masks: Tensor) -> Tensor:
    """Compute the MSE of the attention (B, 1, h, w) and the mask, pooled to its size and scaled to a maximum of 1.

    Every class but 0 is foreground. Images without a mask or foreground, and cells without a valid pixel, add nothing.
    Source: method section 1, MGANet's mask guidance.
    """
    targets, valid = _foreground_targets(masks, attention)
    peak = targets.amax((1, 2, 3), keepdim=True)
    squares = (attention.float() - targets / peak.clamp(min=1e-6)).square() * valid
    usable = peak.flatten() > 0
    per_image = squares.sum((1, 2, 3)) / valid.sum((1, 2, 3)).clamp(min=1.0)
    return (per_image * usable).sum() / usable.sum().clamp(min=1)


def _foreground_targets(masks: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `mask_targets` with every class but 0 as one class, at the size of `like` (B, 1, h, w)."""
    foreground = masks.where(masks == IGNORE_INDEX, (masks > 0).to(masks))
    return mask_targets(foreground, (like.shape[-2], like.shape[-1]), 1)


def weighted_sum(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
    """Sum weight * loss over named terms."""
    return torch.stack([weight * loss for weight, loss in terms.values()]).sum()
