"""Predict many image files: a table, a mask and an overlay for each image, and an overview sheet of some of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mnsa.batch.added_images import add_images
from mnsa.batch.batching import Shard
from mnsa.batch.pipeline import Progress, predict_all
from mnsa.batch.prediction_folder import (
    Origin,
    PredictionFolder,
    completion_lock,
    find_finished,
    merge_rows,
    open_prediction_folder,
    read_prediction_table,
    sheet_indices,
    write_overview_sheet,
    write_prediction_table,
)
from mnsa.data.image_source import ImageSource
from mnsa.data.paths import find_images, unique_names
from mnsa.data.photo_scale import PhotoScale
from mnsa.errors import MnsaError, RunError
from mnsa.inference.predictor import Predictor
from mnsa.traits import TraitMeasurer
from mnsa.trees.boosted_trees import BoostedTrees

__all__ = ["PredictionInterruptedError", "PredictionSummary", "find_images", "predict_files"]

_MAX_ERRORS = 100  # that are named beside the table

_DEFAULT_BATCH_SIZE = {"cpu": 4, "cuda": 32}


class PredictionInterruptedError(MnsaError):
    """Ctrl-C was pressed; finished images are kept."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class PredictionSummary:
    """The result of `predict_files`.

    done, failed: images with a prediction and with an error. new: images that this call has finished, with those that
    have an error. missing: images of other processes that are not finished; the last process writes the table.
    warnings: the number of images with each warning. errors: path and error of the first images that failed.
    """

    table: Path
    sheet: Path | None
    done: int
    failed: int
    new: int = 0
    missing: int = 0
    warnings: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[tuple[str, str]] = ()


def predict_files(
    predictor: Predictor, images: Sequence[ImageSource], out: Path, *,
    measurer: TraitMeasurer | None = None, photo_scale: PhotoScale | None = None, batch_size: int | None = None,
    shard: Shard | None = None, options: Mapping[str, str] | None = None, progress: Progress | None = None,
) -> PredictionSummary:  # fmt: skip
    """Predict image files into a folder: predictions.csv, masks/, overlays/, sheet.png. Call it again to continue.

    A file that can't be predicted has its error in the table. In a finished folder, only images that are new to it are
    predicted, and those that failed; the table keeps all others.
    measurer: measures the masks, one column per trait. photo_scale: gives each photo a scale of its own; the measurer's
    then only says that there is one. A predictor with `explain` adds attention/ and grad_cam/.
    batch_size: None chooses by the device. shard: the images of this process; None is all images. options: other
    options that the predictions depend on, for predictions.json. progress: called with the number of finished images in
    this shard, of all its images, and of those that this call has finished.
    Raises: RunError when `out` is something else or can't be written; PredictionInterruptedError after Ctrl-C.
    """
    shard = shard or Shard()
    batch_size = batch_size or _DEFAULT_BATCH_SIZE.get(next(predictor.network.parameters()).device.type, 4)
    origin: Origin = {
        "network": predictor_digest(predictor), "batch size": batch_size,
        "traits": _describe(measurer, photo_scale), **(options or {}),
        **({"explained": "attention and Grad-CAM"} if predictor.explain else {}),
    }  # fmt: skip
    new = 0
    try:
        listed = add_images(out, images, origin)
        folder = open_prediction_folder(out, {**origin, **listed.describe()})
        images, names = listed.images, unique_names(listed.images, added=listed.added)
        if not folder.table.exists():
            new = predict_all(predictor, images, names, folder, measurer, photo_scale, batch_size, shard, progress)
            _write_table_when_complete(predictor, images, names, folder, measurer)
    except KeyboardInterrupt:
        raise PredictionInterruptedError(
            f"Interrupted. The finished images are in {out}. Run the same command again to continue."
        ) from None
    except OSError as error:
        raise RunError(
            f"{out} can't be written: {error.strerror or error}. The finished images stay. Solve the "
            "problem, then run the same command again to continue."
        ) from None
    return _summarize(folder, len(images), new)


def _describe(measurer: TraitMeasurer | None, photo_scale: PhotoScale | None) -> str:
    if measurer is None:
        return "none"
    if photo_scale is None:
        return repr(measurer)
    digest = hashlib.sha256(repr(photo_scale).encode()).hexdigest()  # a table of scales may be long
    return f"{measurer!r}, scale by {photo_scale.kind} {digest[:16]}"


def predictor_digest(predictor: Predictor) -> str:
    """Hash everything that predictions depend on (SHA-256): weights, trees, transform, names, calibration, masks."""
    digest = hashlib.sha256(repr((predictor.classes, predictor.mask_classes)).encode())
    digest.update(repr((predictor.temperature, predictor.threshold)).encode())
    digest.update(repr(predictor.mask_maker.postprocessing).encode())
    digest.update(repr((predictor.keeps_scale, predictor.tiling, predictor.views, predictor.scale)).encode())
    digest.update(repr(predictor.transform.joint).encode())
    digest.update(repr(predictor.transform.image_only).encode())
    for name, tensor in predictor.network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    for trees in _find_trees(predictor.network):
        digest.update(trees.booster.save_raw())
    return digest.hexdigest()


def _write_table_when_complete(
    predictor: Predictor, images: Sequence[ImageSource], names: Sequence[str], folder: PredictionFolder,
    measurer: TraitMeasurer | None,
) -> None:  # fmt: skip
    """Write sheet and table when the images of all processes are finished; the last process does it."""
    with completion_lock(folder):
        count = len(images)
        if folder.table.exists() or not all(find_finished(folder, count)):
            return
        shown = sheet_indices(count)
        rows = (
            (row, names[n], images[n])
            for n, row in enumerate(merge_rows(folder, count))
            if n in shown and not row.get("error")
        )
        write_overview_sheet(folder, rows)
        write_prediction_table(
            folder,
            predictor.prediction_table(
                measurer.table_columns if measurer else (), mask_files=bool(predictor.mask_classes)
            ),
            merge_rows(folder, count),
        )


def _summarize(folder: PredictionFolder, count: int, new: int) -> PredictionSummary:
    if not folder.table.exists():
        finished = sum(find_finished(folder, count))
        return PredictionSummary(folder.table, None, finished, 0, new, count - finished)
    broken, warnings, errors = 0, Counter[str](), list[tuple[str, str]]()
    for row in read_prediction_table(folder.table):
        broken += bool(row["error"])
        if row["error"] and len(errors) < _MAX_ERRORS:
            errors.append((row["image"], row["error"]))
        warnings.update(filter(None, [row.get("warning")]))
    sheet = folder.sheet if folder.sheet.exists() else None
    return PredictionSummary(folder.table, sheet, count - broken, broken, new, warnings=warnings, errors=errors)


def _find_trees(network: nn.Module) -> list[BoostedTrees]:
    return [module for module in network.modules() if isinstance(module, BoostedTrees)]
