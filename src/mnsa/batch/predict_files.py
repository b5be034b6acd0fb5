"""Answers for many files: a table, a mask and an overlay each, and a sheet of a dozen.

Threads read ahead, the network answers batch after batch, threads write; what waits between them is bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnsa.errors import MnsaError, RunError
from mnsa.inference.answers_folder import (
    AnswersFolder,
    finished_images,
    finishing,
    joined_rows,
    open_folder,
    read_rows,
    write_table,
)
from mnsa.inference.digest import list_digest, model_digest
from mnsa.inference.find import find_images, unique_names
from mnsa.inference.pictures import on_sheet, write_overview
from mnsa.inference.pipeline import Progress, answer_all
from mnsa.inference.predictor import Predictor
from mnsa.inference.rows import columns_of
from mnsa.inference.shard import Shard
from mnsa.traits import Ruler

__all__ = ["Answers", "PredictionInterruptedError", "find_images", "predict_files"]

_USUAL_BATCH = {"cpu": 4, "cuda": 32}


class PredictionInterruptedError(MnsaError):
    """Ctrl-C: what is finished stays."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Answers:
    """What `predict_files` left behind.

    new: images answered by this call, broken ones included. missing: images that other processes still work on; the
    table appears with the last of them.
    """

    table: Path
    sheet: Path | None
    done: int
    broken: int
    new: int = 0
    missing: int = 0


def predict_files(
    predictor: Predictor, images: list[Path], out: Path, *, ruler: Ruler | None = None, batch_size: int | None = None,
    shard: Shard | None = None, options: Mapping[str, str] | None = None, progress: Progress | None = None,
) -> Answers:  # fmt: skip
    """Answer for each file into a folder: predictions.csv, masks/, overlays/, sheet.png. A second call goes on.

    ruler: measures the masks, a column per trait. A predictor that explains adds attention/ and grad_cam/. batch_size:
    None takes what suits the device. shard: this process's share; None is everything. options: what else the answers
    depend on, for the folder's record. progress: called with (images finished in this share, those in it, those
    answered by this call).
    A broken file gets its reason in the table and the others are done.
    Raises: RunError when `out` is something else or can't be written; PredictionInterruptedError after Ctrl-C.
    """
    shard = shard or Shard()
    batch_size = batch_size or _USUAL_BATCH.get(next(predictor.network.parameters()).device.type, 4)
    origin: dict[str, str | int] = {
        "network": model_digest(predictor), "images": len(images), "list of images": list_digest(images),
        "batch size": batch_size, "traits": repr(ruler) if ruler else "none", **(options or {}),
        **({"explained": "attention and Grad-CAM"} if predictor.explain else {}),
    }  # fmt: skip
    folder = open_folder(out, origin)
    new = 0
    try:
        if not folder.table.exists():
            new = answer_all(predictor, images, folder, ruler, batch_size, shard, progress)
            _finish(predictor, images, folder, ruler)
    except KeyboardInterrupt:
        raise PredictionInterruptedError(
            f"Interrupted. What is finished is in {out}; the same command goes on from there."
        ) from None
    except OSError as error:
        raise RunError(
            f"{out} can't be written: {error.strerror or error}. What is finished stays; mend that, and the same "
            "command goes on from there."
        ) from None
    return _summary(folder, len(images), new)


def _finish(predictor: Predictor, images: list[Path], folder: AnswersFolder, ruler: Ruler | None) -> None:
    """Write sheet and table if every process's share is in; whichever process is last does it."""
    with finishing(folder):
        count = len(images)
        if folder.table.exists() or not all(finished_images(folder, count)):
            return
        names, shown = unique_names(images), on_sheet(count)
        rows = (
            (row, names[n]) for n, row in enumerate(joined_rows(folder, count)) if n in shown and not row.get("error")
        )
        write_overview(folder, rows)
        write_table(folder, columns_of(predictor, ruler.columns if ruler else []), joined_rows(folder, count))


def _summary(folder: AnswersFolder, count: int, new: int) -> Answers:
    if not folder.table.exists():
        finished = sum(finished_images(folder, count))
        return Answers(folder.table, None, finished, 0, new, count - finished)
    broken = sum(bool(row["error"]) for row in read_rows(folder))
    return Answers(folder.table, folder.sheet if folder.sheet.exists() else None, count - broken, broken, new)
