"""Whose answers: a fingerprint of a predictor and of a list of images."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mnsa.inference.predictor import Predictor
from mnsa.trees.boosted import BoostedTrees


def model_digest(predictor: Predictor) -> str:
    """SHA-256 of everything an answer depends on: weights, trees, transform, names of classes, calibration."""
    digest = hashlib.sha256(repr((predictor.classes, predictor.mask_classes)).encode())
    digest.update(repr((predictor.temperature, predictor.threshold)).encode())
    digest.update(repr((predictor.keeps_scale, predictor.tiling, predictor.views)).encode())
    digest.update(repr(predictor.transform.together).encode())
    digest.update(repr(predictor.transform.finish).encode())
    for name, tensor in predictor.network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    for trees in _trees(predictor.network):
        digest.update(trees.booster.save_raw())
    return digest.hexdigest()


def list_digest(images: Sequence[Path]) -> str:
    """SHA-256 of the images' paths, in order."""
    digest = hashlib.sha256()
    for path in images:
        digest.update(os.fsencode(path) + b"\0")
    return digest.hexdigest()


def _trees(network: nn.Module) -> list[BoostedTrees]:
    return [module for module in network.modules() if isinstance(module, BoostedTrees)]
