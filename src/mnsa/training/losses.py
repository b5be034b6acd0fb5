"""Loss functions.

B batch; K classes; M mask classes; H, W size of the masks; h, w size of the mask logits. Images without a label or a
mask add nothing to a loss. With several processes, a loss is that of the whole batch, the same number in each of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.dataset import rank_and_world_size
from mnsa.model.ops.soft_skeleton import box, cross, soft_skeleton
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch
from mnsa.training.collectives import sum_over_processes

# Deep supervision: weights of the losses of the output and of `side_loss`. Source: method section 1.
OUTPUT_WEIGHT, SIDES_WEIGHT = 0.95, 0.1


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Compute the cross-entropy of logits (B, K) and labels; class weights (K,) or None. 0 without any label.

    labels: indices (B,), or shares of the classes (B, K), which are all 0 for an image without a label.
    """
    weights = logits.new_ones(logits.shape[1]) if weights is None else weights.to(logits)
    if labels.dim() > 1:
        known, shares = labels.sum(1) > 0, labels.to(logits)
        smooth = shares * (1 - label_smoothing) + label_smoothing / logits.shape[1] * shares.sum(1, keepdim=True)
        entropy = -(smooth * weights * logits.log_softmax(1))[known].sum()
        return _divide(entropy, (shares * weights).sum(), minimum=1e-6)
    entropy = F.cross_entropy(
        logits, labels, weights, ignore_index=NO_LABEL, label_smoothing=label_smoothing, reduction="sum"
    )
    return _divide(entropy, weights[labels[labels != NO_LABEL]].sum(), minimum=1e-6)


def mask_targets(
    masks: Tensor, size: tuple[int, int], mask_classes: int, shares: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Resize masks (B, H, W) to `size` (h, w): targets (B, M, h, w) in 0..1 and valid (B, 1, h, w), both float.

    A target is the fraction of the pixel's area that the class covers, so thin structures are neither widened nor lost.
    valid: 1 where at least a part of the pixel is not IGNORE_INDEX, else 0. shares: of the classes in blended masks,
    (B, M, H, W) in 0..1, in place of the one class that a mask has.
    """
    valid = (masks != IGNORE_INDEX)[:, None].float()
    if shares is not None:
        targets = shares * valid
    elif mask_classes == 1:
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
    return _divide((_cross_entropy(logits, targets) * valid).sum(), valid.sum())


def dice_loss(logits: Tensor, targets: Tensor, valid: Tensor, labels: Tensor | None = None) -> Tensor:
    """Compute 1 - soft Dice over all valid pixels of the batch, averaged over the mask classes present in it.

    labels: targets (B, M, h, w) whose sum says which classes are present, if `targets` have every class everywhere.
    Source: F. Milletari et al., "V-Net", 3DV 2016, with sums instead of squares in the denominator.
    """
    probs = mask_probs(logits) * valid
    targets = targets * valid
    present = targets if labels is None else labels * valid
    sums = ((probs * targets), (probs + targets), present)
    overlap, total, pixels = _sum_over_processes(*(values.sum((0, 2, 3)) for values in sums))
    present = (pixels > 0).to(probs)
    losses = 1 - 2 * overlap / total.clamp(min=1e-6)
    return (losses * present).sum() / present.sum().clamp(min=1.0)


def mask_probs(logits: Tensor) -> Tensor:
    """Compute the probabilities (B, M, h, w) of mask logits: sigmoid for one mask class, softmax for several."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


class ThinTargets(NamedTuple):
    """The true masks of T thin classes and their centerlines: uint8 (B, T, H, W), 0 or 1, at the size of the masks."""

    masks: Tensor
    centerlines: Tensor


def thin_targets(batch: Batch, classes: Sequence[int]) -> ThinTargets:
    """Take the masks and centerlines of some classes, given by their mask values, from a batch with centerlines."""
    if batch.centerlines is None:
        raise ValueError("the batch has no centerlines")
    masks = torch.stack([batch.masks == value for value in classes], dim=1)
    return ThinTargets(masks.byte(), (masks & batch.centerlines[:, None]).byte())


def cldice_loss(probs: Tensor, thin: ThinTargets, valid: Tensor, iterations: int) -> Tensor:
    """Compute 1 - soft clDice of probs (B, T, h, w) over the batch, averaged over the classes with a centerline in it.

    The harmonic mean of two parts: of the predicted skeleton in the true mask, and of the true skeleton in the
    predicted mask. The true skeleton is not a soft one: the thinned mask is connected and one pixel wide, and it costs
    nothing here. iterations: of the predicted soft skeleton. Source: S. Shit et al., CVPR 2021, with its smoothing of
    one pixel.
    """
    skeletons = soft_skeleton(probs, iterations) * valid
    truth = F.adaptive_avg_pool2d(thin.masks.float(), (probs.shape[-2], probs.shape[-1]))
    inside, length = _sum_over_processes((skeletons * truth).sum((0, 2, 3)), skeletons.sum((0, 2, 3)))
    precision = (inside + 1) / (length + 1)
    recall, present = _recall(probs, _pool_max(thin.centerlines, probs) * valid)
    losses = 1 - 2 * precision * recall / (precision + recall)
    return (losses * present).sum() / present.sum().clamp(min=1.0)


def skeleton_recall_loss(probs: Tensor, thin: ThinTargets, valid: Tensor) -> Tensor:
    """Compute 1 - the mean of probs (B, T, h, w) within 2 px of the true centerlines, inside the true mask.

    Over the batch, averaged over the classes with a centerline in it. Source: Y. Kirchhoff et al., "Skeleton Recall
    Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin Tubular Structures", ECCV 2024.
    """
    tubes = cross(torch.maximum, cross(torch.maximum, thin.centerlines)) * thin.masks
    recall, present = _recall(probs, _pool_max(tubes, probs) * valid)
    return ((1 - recall) * present).sum() / present.sum().clamp(min=1.0)


def centerline_loss(logits: Tensor, targets: Tensor, valid: Tensor, thin: ThinTargets) -> Tensor:
    """Compute the cross-entropy of the pixels where one pixel joins or parts lines, divided by all valid pixels.

    These are the pixels at most 1 px from a centerline, and the gaps of at most 2 px between lines, which a closing of
    3 x 3 px fills. `pixel_loss` + w * this loss weights them by 1 + w. Arguments: as `pixel_loss`.
    """
    lines, masks = thin.centerlines.amax(1, keepdim=True), thin.masks.amax(1, keepdim=True)
    gaps = box(torch.minimum, box(torch.maximum, masks)) - masks
    critical = _pool_max(torch.maximum(box(torch.maximum, lines), gaps), logits)
    return _divide((_cross_entropy(logits, targets) * critical * valid).sum(), valid.sum())


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
    return _divide((per_image * usable).sum(), usable.sum())


def _divide(total: Tensor, count: Tensor, minimum: float = 1.0) -> Tensor:
    """Divide sums of this process by counts, both over all processes. No count: 0."""
    total, count = _sum_over_processes(total, count)
    return total / count.clamp(min=minimum)


def _foreground_targets(masks: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `mask_targets` with every class but 0 as one class, at the size of `like` (B, 1, h, w)."""
    foreground = masks.where(masks == IGNORE_INDEX, (masks > 0).to(masks))
    return mask_targets(foreground, (like.shape[-2], like.shape[-1]), 1)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy of every pixel, (B, 1, h, w)."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return -(targets * logits.log_softmax(1)).sum(1, keepdim=True)


def _recall(probs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the weighted mean of probs (B, T, h, w), (T,), and whether a class has any weight, 0 or 1, (T,)."""
    found, total = _sum_over_processes((probs * weights).sum((0, 2, 3)), weights.sum((0, 2, 3)))
    return found / total.clamp(min=1e-6), (total > 0).to(probs)


def _pool_max(maps: Tensor, like: Tensor) -> Tensor:
    """Resize maps (B, T, H, W) of 0 and 1 to the size of `like` (B, M, h, w): 1 where any pixel is 1; float."""
    return F.adaptive_max_pool2d(maps.float(), like.shape[-2:]) if maps.shape[-2:] != like.shape[-2:] else maps.float()


def weighted_sum(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
    """Sum weight * loss over named terms."""
    return torch.stack([weight * loss for weight, loss in terms.values()]).sum()


def _sum_over_processes(*values: Tensor) -> tuple[Tensor, ...]:
    return values if rank_and_world_size()[1] == 1 else sum_over_processes(*values)
