"""The released code's evaluation of a run: centre crops in batches, at the mask head's resolution.

B batch; h, w size of the crops, in pixels.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest
from mnsa.data.transforms import crop_transform
from mnsa.errors import DataError
from mnsa.evaluation.released import BATCH_SIZE, iou_released
from mnsa.model.network import Network, padded
from mnsa.run_folder import load_network


def released_iou_of(run: Path, manifest: Manifest) -> float:
    """Score a run on the rows that have a mask, for comparison with published figures only; see `iou_released`.

    Raises: DataError when there is no mask or more than one mask class.
    """
    rows = [row for row in manifest.rows if row.mask]
    network, card = load_network(run)
    if len(card.mask_classes) != 1 or not rows:
        raise DataError("The released code's IoU is for one mask class, and needs masks. Leave --iou-released out.")
    transform = crop_transform(card.data, mean=network.backbone.mean, std=network.backbone.std)
    samples = (read_sample(manifest, row) for row in rows)
    crops = (transform(sample.image, sample.mask) for sample in samples)
    return iou_released(_answered(network, images, masks) for images, masks in _batches(crops))


def _batches(crops: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, 3, h, w) and masks (B, h, w); the last batch may be smaller."""
    while batch := list(islice(crops, BATCH_SIZE)):
        images, masks = zip(*batch, strict=True)
        yield torch.stack(images), torch.stack(masks)


def _answered(network: Network, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits (B, 1, h/2, w/2), whatever the head's own resolution, and masks (B, h, w)."""
    images, masks = padded(images), padded(masks)
    half = images.shape[-2] // 2, images.shape[-1] // 2
    with torch.inference_mode():
        mask_logits = network.segment(network.features(images), images)
        return F.interpolate(mask_logits, half, mode="bilinear"), masks
