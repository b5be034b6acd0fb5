"""MixUp and CutMix of torchvision for both tasks: what happens to the images happens to their labels and masks."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from mnsa.config import AugmentConfig
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch


@dataclass(frozen=True, slots=True)
class BatchMixer:
    """Blends each image of a batch with the one before it, by one of `transforms`: MixUp, CutMix or both.

    classes, mask_classes: their numbers, K and M. Random numbers come from torch's global generator.
    """

    transforms: tuple[Any, ...]
    classes: int
    mask_classes: int

    def __call__(self, batch: Batch) -> Batch:
        """Return the mixed batch, with label_shares if there are classes, and with mask_shares if it was blended."""
        mix = self.transforms[int(torch.randint(len(self.transforms), ()))]
        labels = batch.labels
        if self.classes:
            known = (labels != NO_LABEL)[:, None]
            labels = F.one_hot(labels.where(labels != NO_LABEL, 0), self.classes).float() * known
        params = {"labels": labels, "batch_size": len(batch.images), **mix.make_params([batch.images])}
        shares = mix.transform(labels, params) if self.classes else None
        mixed = replace(batch, images=mix.transform(batch.images, params), label_shares=shares)
        if isinstance(mix, v2.CutMix):
            lines = batch.centerlines
            return replace(
                mixed,
                masks=mix.transform(batch.masks[:, None], params)[:, 0],
                centerlines=None if lines is None else mix.transform(lines[:, None], params)[:, 0],
            )
        other = batch.masks.roll(1, 0)
        masks = batch.masks.where(other != IGNORE_INDEX, IGNORE_INDEX)
        return replace(mixed, masks=masks, mask_shares=mix.transform(self._class_shares(batch.masks), params))

    def _class_shares(self, masks: Tensor) -> Tensor:
        """Masks (B, h, w) as shares (B, M, h, w) of 0 and 1; 0 where they are unknown."""
        if self.mask_classes == 1:
            return (masks == 1)[:, None].float()
        known = (masks != IGNORE_INDEX)[:, None]
        return F.one_hot(masks.where(masks != IGNORE_INDEX, 0), self.mask_classes).movedim(-1, 1).float() * known


def make_mixer(augment: AugmentConfig, classes: int, mask_classes: int) -> BatchMixer | None:
    """Make the mixer of a config; None if it has none."""
    kinds = ((v2.MixUp, augment.mixup), (v2.CutMix, augment.cutmix))
    transforms = tuple(kind(alpha=alpha) for kind, alpha in kinds if alpha)
    return BatchMixer(transforms, classes, mask_classes) if transforms else None
