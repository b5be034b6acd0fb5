"""Predict many image files: a table, a mask and an overlay for each image, and a sheet with a sample of them.

Threads read images, the network predicts batch after batch, threads write. The queues between them are bounded.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mnsa.batch.batching import Shard
from mnsa.batch.image_files import find_images, unique_names
from mnsa.batch.pipeline import Progress, predict_all
from mnsa.batch.prediction_folder import (
    PredictionFolder,
    completion_lock,
    find_finished,
    merge_rows,
    open_prediction_folder,
    read_prediction_table,
    write_prediction_table,
)
from mnsa.batch.prediction_images import sheet_indices, write_overview_sheet
from mnsa.errors import MnsaError, RunError
from mnsa.inference.predictor import Predictor
from mnsa.traits import TraitMeasurer
from mnsa.trees.boosted_trees import BoostedTrees


def predictor_digest(predictor: Predictor) -> str:
    """SHA-256 of everything a prediction depends on: weights, trees, transform, names of classes, calibration."""
    digest = hashlib.sha256(repr((predictor.classes, predictor.mask_classes)).encode())
    digest.update(repr((predictor.temperature, predictor.threshold)).encode())
    digest.update(repr((predictor.keeps_scale, predictor.tiling, predictor.views)).encode())
    digest.update(repr(predictor.transform.joint).encode())
    digest.update(repr(predictor.transform.image_only).encode())
    for name, tensor in predictor.network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    for trees in _find_trees(predictor.network):
        digest.update(trees.booster.save_raw())
    return digest.hexdigest()


def image_list_digest(images: Sequence[Path]) -> str:
    """SHA-256 of the images' paths, in order."""
    digest = hashlib.sha256()
    for path in images:
        digest.update(os.fsencode(path) + b"\0")
    return digest.hexdigest()


def _find_trees(network: nn.Module) -> list[BoostedTrees]:
    return [module for module in network.modules() if isinstance(module, BoostedTrees)]


__all__ = ["PredictionInterruptedError", "PredictionSummary", "find_images", "predict_files"]


_DEFAULT_BATCH_SIZE = {"cpu": 4, "cuda": 32}


class PredictionInterruptedError(MnsaError):
    """Ctrl-C: what is finished stays."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class PredictionSummary:
    """What `predict_files` left behind.

    new: images answered by this call, broken ones included. missing: images that other processes still work on; the
    table appears with the last of them.
    """

    table: Path
    sheet: Path | None
    done: int
    failed: int
    new: int = 0
    missing: int = 0


def predict_files(
    predictor: Predictor, images: list[Path], out: Path, *, measurer: TraitMeasurer | None = None, batch_size: int | None = None,
    shard: Shard | None = None, options: Mapping[str, str] | None = None, progress: Progress | None = None,
) -> PredictionSummary:  # fmt: skip
    """Answer for each file into a folder: predictions.csv, masks/, overlays/, sheet.png. A second call goes on.

    measurer: measures the masks, a column per trait. A predictor that explains adds attention/ and grad_cam/. batch_size:
    None takes what suits the device. shard: this process's share; None is everything. options: what else the answers
    depend on, for the folder's record. progress: called with (images finished in this share, those in it, those
    answered by this call).
    A broken file gets its reason in the table and the others are done.
    Raises: RunError when `out` is something else or can't be written; PredictionInterruptedError after Ctrl-C.
    """
    shard = shard or Shard()
    batch_size = batch_size or _DEFAULT_BATCH_SIZE.get(next(predictor.network.parameters()).device.type, 4)
    origin: dict[str, str | int] = {
        "network": predictor_digest(predictor), "images": len(images), "list of images": image_list_digest(images),
        "batch size": batch_size, "traits": repr(measurer) if measurer else "none", **(options or {}),
        **({"explained": "attention and Grad-CAM"} if predictor.explain else {}),
    }  # fmt: skip
    folder = open_prediction_folder(out, origin)
    new = 0
    try:
        if not folder.table.exists():
            new = predict_all(predictor, images, folder, measurer, batch_size, shard, progress)
            _write_table_when_complete(predictor, images, folder, measurer)
    except KeyboardInterrupt:
        raise PredictionInterruptedError(
            f"Interrupted. What is finished is in {out}; the same command goes on from there."
        ) from None
    except OSError as error:
        raise RunError(
            f"{out} can't be written: {error.strerror or error}. What is finished stays; mend that, and the same "
            "command goes on from there."
        ) from None
    return _summarize(folder, len(images), new)


def _write_table_when_complete(
    predictor: Predictor, images: list[Path], folder: PredictionFolder, measurer: TraitMeasurer | None
) -> None:
    """Write sheet and table if every process's share is in; whichever process is last does it."""
    with completion_lock(folder):
        count = len(images)
        if folder.table.exists() or not all(find_finished(folder, count)):
            return
        names, shown = unique_names(images), sheet_indices(count)
        rows = (
            (row, names[n]) for n, row in enumerate(merge_rows(folder, count)) if n in shown and not row.get("error")
        )
        write_overview_sheet(folder, rows)
        write_prediction_table(
            folder, predictor.prediction_table(measurer.columns if measurer else ()), merge_rows(folder, count)
        )


def _summarize(folder: PredictionFolder, count: int, new: int) -> PredictionSummary:
    if not folder.table.exists():
        finished = sum(find_finished(folder, count))
        return PredictionSummary(folder.table, None, finished, 0, new, count - finished)
    broken = sum(bool(row["error"]) for row in read_prediction_table(folder))
    return PredictionSummary(folder.table, folder.sheet if folder.sheet.exists() else None, count - broken, broken, new)
