"""The released code's own IoU, only to stand beside its published figures.

B batch; H, W mask size; h, w size of the mask logits, half of it in the paper's network.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.records import NO_MASK

BATCH_SIZE = 8  # the released code's, which its figure depends on


def iou_released(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Mean over batches of the batch's IoU at the logits' resolution. Don't report it as your result: it flatters.

    batches: mask_logits (B, 1, h, w) and masks (B, H, W) of 0 and 1. Three things make it differ from IoU: each mask
    is shrunk bilinearly and every pixel above 0 counts as vein, which thickens veins to whole 2 x 2 blocks; a batch
    in which prediction and mask are both empty counts as 1; and the mean over batches depends on their size and order.
    Pixels of unknown truth count as background. Source: method section 5, mistake 2.
    """
    scores = []
    for mask_logits, masks in batches:
        predicted = mask_logits[:, 0] > 0
        veins = ((masks > 0) & (masks != NO_MASK))[:, None].float()
        truth = F.interpolate(veins, predicted.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
        union = (predicted | truth).sum()
        scores.append((predicted & truth).sum() / union if union > 0 else torch.tensor(1.0))
    return float(torch.stack(scores).double().mean())
