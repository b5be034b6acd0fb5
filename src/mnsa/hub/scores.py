"""What evaluation.json says, as lines of a model card."""

from typing import Any

from mnsa.errors import RunError
from mnsa.hub.plain import plain
from mnsa.run_folder import RunFolder
from mnsa.text_files import read_json


def score_lines(run: RunFolder | None) -> str:
    """A table of the scores of the network's own head, with split and interval. Raises: RunError for a damaged file."""
    if run is None or not run.evaluation_file.exists():
        return "Not evaluated yet: `mnsa evaluate RUN` scores it on its test images."
    try:
        kept: dict[str, Any] = read_json(run.evaluation_file, most_bytes=1 << 28)
        # `test/trees` are scores with boosted trees as class head, which are no part of the saved network.
        rows = [row for split, scores in kept.items() if "/" not in split for row in _rows(split, scores)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run.evaluation_file} is damaged: {error!r}. Move it away and evaluate again.") from None
    table = ["| data set | split | images | score | value | 95 % interval over images |", "|---|---|---|---|---|---|"]
    return "\n".join([*table, *rows]) + "\n\nMeasured at the images' own size."


def _rows(split: str, scores: dict[str, Any]) -> list[str]:
    found: list[tuple[int, str, float | None, list[float] | None]] = []
    if classes := scores.get("classification"):
        found.append((classes["images"], "accuracy", classes["accuracy"], classes["accuracy_interval"]))
        found.append((classes["images"], "macro F1", classes["macro_f1"], None))
    if masks := scores.get("segmentation"):
        for name, one in masks["classes"].items():
            found.append((masks["images"], f"IoU of {name}", one["iou"], one["iou_interval"]))
            found.append((masks["images"], f"Dice of {name}", one["dice"], None))
    where = f"{plain(scores.get('dataset', ''))} | {plain(split)}"
    return [
        f"| {where} | {images} | {plain(name)} | {_number(value)} | {_interval(bounds)} |"
        for images, name, value, bounds in found
    ]


def _number(value: float | None) -> str:
    return "none to score" if value is None else f"{value:.3f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
