"""Warm start of a stage: its class head begins as a linear probe, and the network before training may stay the best.

Source: Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution (linear
probing, then fine-tuning).
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnsa.checked_files import write_checked
from mnsa.config import DataConfig
from mnsa.data.manifest import Manifest
from mnsa.data.transforms import eval_transform
from mnsa.errors import ModelError
from mnsa.model.network import NO_CLASS_HEAD, Network
from mnsa.structures import Batch
from mnsa.training.checkpoint import RECORD
from mnsa.training.linear_probe import LinearClassifier, compute_features, tune_logistic_regression
from mnsa.training.module import StageModule

INITIAL_CHECKPOINT = "initial.ckpt"  # beside best.ckpt and last.ckpt
_BATCH_SIZE = 8

logger = logging.getLogger(__name__)


def init_class_head(network: Network, manifest: Manifest, data: DataConfig) -> LinearClassifier:
    """Set the class head to the logistic regression of what it reads: the pooled features of the training images.

    The images are resized as in validation, without augmentation; validation chooses the penalty. Returns: the
    classifier. Raises: DataError when an image can't be read; ModelError for a network without class head.
    """
    if network.class_head is None or not isinstance(network.class_head.classifier, nn.Linear):
        raise ModelError(NO_CLASS_HEAD)
    network.eval().to(device := _device())
    transform = eval_transform(data, network.backbone.mean, network.backbone.std)
    batch_size = 1 if data.resize_mode == "crop" else _BATCH_SIZE  # whole images have different sizes
    train, val = (
        compute_features(
            manifest.split(split), [transform], lambda images: network.pool(network.features(images)),
            batch_size=batch_size, device=device,
        )[0]
        for split in ("train", "val")
    )  # fmt: skip
    classifier = tune_logistic_regression(train, val, len(manifest.classes))
    head = network.class_head.classifier
    with torch.no_grad():
        head.weight.copy_(classifier.weight)
        head.bias.copy_(classifier.bias)
    return classifier


def warm_start(
    module: StageModule, manifest: Manifest, data: DataConfig, val_batches: Iterable[Batch], file: Path, *, writes: bool
) -> None:  # fmt: skip
    """Start a stage with the class head of a linear probe, and write the network with its validation score.

    val_batches: of the stage. file: new checkpoint, the `initial` one of `choose_checkpoint`. writes: False in all
    processes but the first. Raises: as `init_class_head`; OSError.
    """
    classifier = init_class_head(module.network, manifest, data)
    score = _validate(module, val_batches)
    module.cpu()
    if writes:
        logger.info("%s 0  linear probe (penalty %.2g): val_score %.5g", module.stage.name, classifier.l2, score)
        file.parent.mkdir(parents=True, exist_ok=True)
        start = {"state_dict": module.state_dict(), "val_score": score}
        write_checked(file, lambda writer: torch.save(start, writer))


def choose_checkpoint(best: Mapping[str, Any], initial: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the checkpoint of the best epoch, or the one before training if no epoch has a better validation score."""
    return best if best[RECORD]["best_score"] > initial["val_score"] else initial


def _validate(module: StageModule, batches: Iterable[Batch]) -> float:
    """Compute the validation score of a stage as it is."""
    module.eval().to(device := _device())
    module.scores.reset()
    with torch.inference_mode():
        for index, batch in enumerate(batches):
            module.validation_step(batch.to(device), index)
        score = float(module.scores.compute()["score"].float())  # as precise as those that checkpoints hold
    module.scores.reset()
    return score


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
