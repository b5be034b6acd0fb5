"""The files that `mnsa evaluate` writes into a run folder.

evaluation.json                  an entry per evaluated split (`evaluation_key`): {KEY: ENTRY, ...}
predictions/KEY/images.csv       a row per image of the split, in the order of the manifest (`image_row`); with --traits
                                 also the traits of the true (`true_...`) and the predicted mask (`predicted_...`)
predictions/KEY/pictures/        NUMBER_PANEL.jpg: panels of the image in row NUMBER, counted from 0; of the worst and
                                 the best images only

An ENTRY of evaluation.json (`mnsa.metrics.scores.Evaluation`):

dataset, images, calibrated      name of the data set; number of images; whether probabilities were calibrated
sizes                            {TASK: {"images": N, "unit": "images" | "groups", "count": C}}, where TASK is
                                 `classification`, `segmentation` or `topology` (of thin mask classes): scores of the
                                 task are of N images; 95 % intervals draw C images or groups
scores                           records, one a line: name, value (null: nothing to score), interval ([low, high] or
                                 null), unit of the value (`mnsa.metrics.scores.Unit`), group (TASK), label for
                                 people, mask_class (only where the score is of one), headline, method of the
                                 interval (only `Wilson`, where all draws of a bootstrap agree)
classes, confusion               class names; images per true class (row) and predicted class (column)
reliability                      bins of the reliability diagram: low, high, images, confidence, accuracy
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np

from mnsa.data.rows import read_csv
from mnsa.errors import RunError
from mnsa.io import atomic_write_text, lock, read_json
from mnsa.metrics import functional
from mnsa.metrics.scores import Evaluation
from mnsa.metrics.topology import betti_errors
from mnsa.run_folder import RunFolder
from mnsa.structures import NO_LABEL, Prediction, Sample

ImageRow = dict[str, str | float]  # a cell per column; a number that does not exist is left out

N_WORST, N_BEST = 6, 3  # images with pictures

_MAX_BYTES = 1 << 28

_TOPOLOGY = ("cldice", "betti0_error", "betti1_error")


class EvaluationFolder(NamedTuple):
    """The paths of predictions/KEY."""

    path: Path

    @property
    def table(self) -> Path:
        return self.path / "images.csv"

    def image_path(self, number: int, panel: str) -> Path:
        """The file of one panel of image `number`."""
        return self.path / "pictures" / f"{number:06}_{panel}.jpg"


class WorstAndBest(NamedTuple):
    """Indices of the worst images, the worst first, and of the best, the best first."""

    worst: list[int]
    best: list[int]


def read_evaluations(run: RunFolder) -> dict[str, Evaluation]:
    """Read evaluation.json; empty when there is none. Raises: RunError when it is damaged."""
    file = run.evaluation_file
    if not file.exists():
        return {}
    try:
        tree = read_json(file, max_bytes=_MAX_BYTES)
        return {key: Evaluation.from_dict(values) for key, values in tree.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged: {error!r}. Move it away and evaluate again.") from None


def save_evaluation(
    run: RunFolder, key: str, evaluation: Evaluation, write: Callable[[EvaluationFolder], None] | None = None
) -> None:
    """Add or replace one entry of evaluation.json, and its folder, which `write` fills.

    A lock prevents that two processes lose each other's scores. Raises: RunError when evaluation.json is damaged or the
    folder can't be written; OSError when evaluation.json can't be written.
    """
    with lock(run.evaluation_lock_file):
        entries = {**read_evaluations(run), key: evaluation}
        if write is not None:
            with replace_evaluation_folder(evaluation_folder(run, key)) as folder:
                write(folder)
        atomic_write_text(run.evaluation_file, _format_json({name: one.to_dict() for name, one in entries.items()}))


def evaluation_folder(run: RunFolder, key: str) -> EvaluationFolder:
    """The folder of the results behind the entry `key` of evaluation.json: predictions/test-trees of `test/trees`."""
    return EvaluationFolder(run.predictions_folder / key.replace("/", "-"))


@contextmanager
def replace_evaluation_folder(folder: EvaluationFolder) -> Iterator[EvaluationFolder]:
    """A temporary folder to fill; on success it replaces an earlier one. Raises: RunError when it can't be written."""
    temporary = EvaluationFolder(folder.path.with_name(f".{folder.path.name}.{token_hex(4)}"))
    try:
        (temporary.path / "pictures").mkdir(parents=True)
        yield temporary
        shutil.rmtree(folder.path, ignore_errors=True)
        temporary.path.rename(folder.path)
    except OSError as error:
        raise RunError(f"{folder.path} can't be written: {error.strerror}. Fix that and evaluate again.") from None
    finally:
        shutil.rmtree(temporary.path, ignore_errors=True)


def image_columns(
    classes: Sequence[str], mask_classes: Sequence[str], thin_classes: Sequence[str] = ()
) -> list[str]:  # fmt: skip
    """The columns of `image_row`, in order, and those of `topology_cells`."""
    class_columns = ["label", "predicted", "probability", "true_probability", "top5"] if classes else []
    mask_columns = ["iou", *(f"iou_{name}" for name in mask_classes)] if mask_classes else []
    topology_columns = [f"{score}_{name}" for name in thin_classes for score in _TOPOLOGY]
    return ["image", "group", *class_columns, *mask_columns, *topology_columns]


def image_row(sample: Sample, prediction: Prediction, classes: Sequence[str], mask_classes: Sequence[str]) -> ImageRow:
    """Score one prediction.

    group: of the image; empty where it is a group by itself. label, predicted: names of the true and of the most
    probable class. probability, true_probability: of the predicted and of the true class. iou_NAME: IoU of each mask
    class. iou: their mean, without the background; see `leave_out_classes`.
    """
    row: ImageRow = {"image": sample.path, "group": sample.group or ""}
    if classes and sample.label != NO_LABEL:
        row["label"] = classes[sample.label]
    if prediction.class_probs is not None:
        best = prediction.class_probs.argsort()[::-1][:5]
        row["predicted"], row["probability"] = classes[best[0]], float(prediction.class_probs[best[0]])
        row["top5"] = "; ".join(f"{classes[k]} {prediction.class_probs[k]:.4f}" for k in best)
        if sample.label != NO_LABEL:
            row["true_probability"] = float(prediction.class_probs[sample.label])
    if prediction.mask is not None and sample.mask is not None:
        row |= _image_ious(np.asarray(sample.mask), prediction.mask, mask_classes)
    return row


def leave_out_classes(rows: Sequence[ImageRow], mask_classes: Sequence[str], absent: Sequence[str]) -> None:
    """Remove the IoU of classes that no truth has from the rows of a split, and from their mean `iou`."""
    counted = [name for name in (mask_classes if len(mask_classes) == 1 else mask_classes[1:]) if name not in absent]
    for row in rows if absent else ():
        for name in absent:
            row.pop(f"iou_{name}", None)
        row.pop("iou", None)
        if values := [float(row[f"iou_{name}"]) for name in counted if f"iou_{name}" in row]:
            row["iou"] = sum(values) / len(values)


def topology_cells(rows: np.ndarray, mask_classes: Sequence[str], thin_classes: Sequence[str]) -> ImageRow:
    """Score the thin mask classes of one image: clDice and Betti errors. rows: TOPOLOGY_DTYPE (M,), of all classes."""
    values = rows["cldice"], betti_errors(rows, "components"), betti_errors(rows, "holes")
    named = [
        (f"{score}_{name}", float(number))
        for score, numbers in zip(_TOPOLOGY, values, strict=True)
        for name, number in zip(mask_classes, numbers, strict=True)
        if name in thin_classes
    ]
    return {name: number for name, number in named if not np.isnan(number)}


def worst_and_best(values: Sequence[float | None]) -> WorstAndBest:
    """Select the images with the lowest and the highest values; None: has no value. No image is in both lists."""
    known = sorted((value, index) for index, value in enumerate(values) if value is not None)
    indices = [index for _, index in known]
    n_best = min(N_BEST, len(indices) // 2)
    return WorstAndBest(indices[: min(N_WORST, len(indices) - n_best)], indices[len(indices) - n_best :][::-1])


def write_image_rows(folder: EvaluationFolder, columns: Sequence[str], rows: Sequence[ImageRow]) -> None:
    """Write images.csv; texts are quoted, so that a file name may contain any character."""
    with folder.table.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        table.writerow(columns)
        table.writerows([_round_value(row.get(name, "")) for name in columns] for row in rows)


def read_image_rows(folder: EvaluationFolder) -> list[Mapping[str, str]]:
    """Read images.csv back, all cells as text. Raises: DataError naming the file."""
    return [line.cells for line in read_csv(folder.table)[1]]


def _image_ious(truth: np.ndarray, predicted: np.ndarray, mask_classes: Sequence[str]) -> ImageRow:
    values = functional.iou(functional.mask_counts(predicted, truth, len(mask_classes)))
    named = [("iou", functional.foreground_mean(values)), *zip((f"iou_{n}" for n in mask_classes), values, strict=True)]
    return {name: float(value) for name, value in named if not np.isnan(value)}


def _round_value(value: str | float) -> str | float:
    return value if isinstance(value, str) else float(f"{value:.6g}")


def _format_json(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line per field, and per item of a list of records or rows: 1,000 classes have 1,000 rows."""
    texts = [f"{json.dumps(key)}: {{\n  {_format_fields(entry)}\n }}" for key, entry in entries.items()]
    return "{\n " + ",\n ".join(texts) + "\n}\n"


def _format_fields(entry: Mapping[str, Any]) -> str:
    return ",\n  ".join(f"{json.dumps(name)}: {_format_value(value)}" for name, value in entry.items())


def _format_value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return "[\n   " + ",\n   ".join(json.dumps(item) for item in value) + "\n  ]"
    return json.dumps(value)
