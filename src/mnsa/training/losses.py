"""Loss functions.

B batch; K classes; M mask classes; h, w size of the mask logits. Images without a label or a mask add nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.structures import IGNORE_INDEX, NO_LABEL

# Deep supervision: the weights of the output's losses and of `side_loss`. Source: method section 1.
OUTPUT_WEIGHT, SIDES_WEIGHT = 0.95, 0.1


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Cross-entropy of logits (B, K) and labels (B,); weights (K,) or None. 0 when no image has a label."""
    if bool((labels == NO_LABEL).all()):
        return logits.sum() * 0.0  # keeps every parameter in the graph: DDP waits for all gradients
    weight = None if weights is None else weights.to(logits)
    return F.cross_entropy(logits, labels, weight, ignore_index=NO_LABEL, label_smoothing=label_smoothing)


def mask_targets(masks: Tensor, size: tuple[int, int], mask_classes: int) -> tuple[Tensor, Tensor]:
    """Masks (B, H, W) at the logits' size: targets (B, M, h, w) in 0..1, and known (B, 1, h, w), both float.

    A pixel shared by several classes gets each one's share of its area: nothing thin is widened or lost.
    """
    known = (masks != IGNORE_INDEX)[:, None].float()
    if mask_classes == 1:
        shares = (masks == 1)[:, None].float()
    else:
        shares = F.one_hot(masks.where(masks != IGNORE_INDEX, 0), mask_classes).movedim(-1, 1).float() * known
    if masks.shape[-2:] == size:
        return shares, known
    known_share = F.adaptive_avg_pool2d(known, size)
    return F.adaptive_avg_pool2d(shares, size) / known_share.clamp(min=1e-6), (known_share > 0).float()


def pixel_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Mean cross-entropy over the known pixels: binary for one mask class, softmax for several."""
    if logits.shape[1] == 1:
        per_pixel = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    else:
        per_pixel = -(targets * logits.log_softmax(1)).sum(1, keepdim=True)
    return (per_pixel * known).sum() / known.sum().clamp(min=1.0)


def dice_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """1 - soft Dice, over the batch's pixels, averaged over the mask classes that the batch holds.

    Source: F. Milletari et al., "V-Net", 3DV 2016, with the sum (not the squares) below.
    """
    probs = (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)) * known
    targets = targets * known
    overlap, total = (probs * targets).sum((0, 2, 3)), (probs + targets).sum((0, 2, 3))
    present = (targets.sum((0, 2, 3)) > 0).to(probs)
    losses = 1 - 2 * overlap / total.clamp(min=1e-6)
    return (losses * present).sum() / present.sum().clamp(min=1.0)


def side_loss(side_logits: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Deep supervision: binary cross-entropy of the side logits (B, 1, h, w) of levels l = 2..5, weighed by 1 / 2^l.

    Any class but 0 counts as foreground: a side logit is one number per pixel. Source: method section 1.
    """
    losses = []
    for level, logits in enumerate(side_logits, start=2):
        targets, known = _foreground_targets(masks, logits)
        losses.append(pixel_loss(logits.float(), targets, known) / 2**level)
    return torch.stack(losses).sum()


def guidance_loss(attention: Tensor, masks: Tensor) -> Tensor:
    """MGANet's mask guidance: MSE of the attention (B, 1, h, w) and the mask, pooled to its size, its maximum 1.

    Any class but 0 counts as foreground; images without a mask or without foreground add nothing, nor do cells without
    a known pixel. Source: method section 1.
    """
    targets, known = _foreground_targets(masks, attention)
    peak = targets.amax((1, 2, 3), keepdim=True)
    squares = (attention.float() - targets / peak.clamp(min=1e-6)).square() * known
    usable = peak.flatten() > 0
    per_image = squares.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1.0)
    return (per_image * usable).sum() / usable.sum().clamp(min=1)


def _foreground_targets(masks: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """`mask_targets` of any class but 0 as one class, at the size of `like` (B, 1, h, w)."""
    foreground = masks.where(masks == IGNORE_INDEX, (masks > 0).to(masks))
    return mask_targets(foreground, (like.shape[-2], like.shape[-1]), 1)


def weighted_sum(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
    """Sum of weight * loss over named terms."""
    return torch.stack([weight * loss for weight, loss in terms.values()]).sum()
