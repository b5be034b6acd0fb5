"""The scores of a supernet's slices on the validation images.

A slice gets BatchNorm statistics of its own from some training batches: those of the widest network belong to other
channels' inputs. The backbone is the same for all slices, so its feature maps are computed once and kept in memory.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from mnsa.batch.batching import local_device
from mnsa.config import Config, ModelConfig
from mnsa.data.manifest import Manifest
from mnsa.errors import StudyError
from mnsa.metrics.torch_metrics import ValidationScores
from mnsa.model.heads import full_size_masks
from mnsa.model.network import Network
from mnsa.search.slices import SubNetwork
from mnsa.structures import Batch, FeaturePyramid
from mnsa.training.fit import build_data_module
from mnsa.training.module import pad_batch

CALIBRATION_BATCHES = 8  # of training images, for the BatchNorm statistics of a slice
FIRST_PART = 4  # a slice can be rejected after one of so many parts of the validation batches
MAX_KEPT_BYTES = 2 << 30  # of images and feature maps


class SliceScore(NamedTuple):
    """first_part: IoU of the first part of the validation images. iou: of all; None: the slice was rejected."""

    first_part: float
    iou: float | None


class SliceScorer:
    """Scores slices of a trained supernet. Raises: as `LeafDataModule`."""

    def __init__(self, widest: Network, config: Config, manifest: Manifest) -> None:
        self._widest = widest.to(local_device()).eval().requires_grad_(requires_grad=False)
        self._mask_classes = len(manifest.mask_classes)
        stage = next(stage for stage in config.stages if "segmentation" in stage.tasks)
        loaders = build_data_module(config, stage, manifest, widest)
        self._train = islice(loaders.train_dataloader(), CALIBRATION_BATCHES)
        self._calibration: list[Batch] = []
        self._val = loaders.val_dataloader()
        self._kept: list[tuple[Batch, FeaturePyramid]] = []
        self._keeps = True

    @torch.no_grad()
    def calibrate(self, model: ModelConfig) -> SubNetwork:
        """Return the slice of a config in eval mode, with its own BatchNorm statistics."""
        network = SubNetwork(self._widest, model, self._mask_classes, momentum=None)
        network.train()
        for batch in self._calibration_batches():
            network.segment(self._widest.features(batch.images), batch.images)
        network.train(mode=False)
        return network

    @torch.no_grad()
    def score(self, model: ModelConfig, floor: float = -math.inf) -> SliceScore:
        """Score the slice of a config. floor: a slice below this IoU after the first part is rejected.

        Raises: StudyError when the validation masks have no pixel to score.
        """
        network, scores, first = self.calibrate(model), ValidationScores(self._mask_classes, "iou"), math.nan
        count = len(self._val)
        part = -(-count // FIRST_PART)
        for index, (batch, pyramid) in enumerate(self._validation_batches(), start=1):
            logits, _ = network.segment(pyramid, batch.images)
            _update(scores, logits, batch)
            if index == part:
                first = _iou(scores)  # NaN if this part has no pixel to score; then nothing is rejected
                if first < floor and part < count:
                    return SliceScore(first, None)
        iou = _iou(scores)
        if math.isnan(iou):
            raise StudyError("the validation masks have no pixel to score")
        return SliceScore(first, iou)

    @torch.no_grad()
    def score_network(self, network: Network) -> float:
        """Compute the IoU of a network of its own, in eval mode, on the validation images."""
        network, scores = network.to(local_device()).eval(), ValidationScores(self._mask_classes, "iou")
        for batch in map(self._prepare, self._val):
            _update(scores, network.segment(network.features(batch.images), batch.images), batch)
        return _iou(scores)

    def _calibration_batches(self) -> list[Batch]:
        self._calibration += [self._prepare(batch) for batch in self._train]  # at the first call, then none is left
        return self._calibration

    def _validation_batches(self) -> Iterator[tuple[Batch, FeaturePyramid]]:
        if len(self._kept) == len(self._val):
            yield from self._kept
            return
        kept, size = list[tuple[Batch, FeaturePyramid]](), 0
        for batch in map(self._prepare, self._val):
            item = batch, self._widest.features(batch.images)
            size += sum(m.nbytes for m in (batch.images, batch.masks, *item[1]))
            self._keeps = self._keeps and size <= MAX_KEPT_BYTES
            kept = [*kept, item] if self._keeps else []
            yield item
        self._kept = kept

    def _prepare(self, batch: Batch) -> Batch:
        batch = pad_batch(batch).to(local_device())
        return Batch(batch.images.contiguous(memory_format=torch.channels_last), batch.masks, batch.labels)


def _update(scores: ValidationScores, logits: Tensor, batch: Batch) -> None:
    scores.update(None, batch.labels, full_size_masks(logits, batch.images), batch.masks)


def _iou(scores: ValidationScores) -> float:
    return float(scores.compute().get("iou", torch.tensor(math.nan)))
