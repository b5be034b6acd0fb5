"""The first lines of a run's page: what it is, and what it scores."""

from collections.abc import Iterator
from html import escape
from typing import Any

from mnsa.report.page import missing, table
from mnsa.report.run_record import RunRecord, SplitScores
from mnsa.report.words import interval, number

_HEAD = ("split", "score", "value", "95 % interval", "images")


def summary(run: RunRecord) -> Iterator[str]:
    """What the network is, tiles with the first evaluated split's scores, and a table of all of them."""
    yield f"<p>{escape(_what(run))}</p>"
    if not run.trained:
        yield missing("There is no finished network yet.", f"mnsa train --resume {run.run.path}")
    if not run.evaluated:
        yield missing("It hasn't been scored yet.", run.command("evaluate"))
        return
    first = run.evaluated[0]
    careful = {
        "test": "Training, the choice of an epoch and calibration open no test images.",
        "val": "Validation chose the epoch, so these scores flatter: expect less of test images.",
        "train": "The network has learned these very images, so these scores flatter.",
    }
    count = first.scores["images"]
    yield f"<p>Scores on split <b>{escape(first.title)}</b>, {count} images. {careful.get(first.split, '')}</p>"
    yield f'<div class="tiles">{"".join(_tiles(first.scores))}</div>'
    if first.split != "test":
        yield missing("The test images haven't been scored.", run.command("evaluate"))
    yield table(_HEAD, [row for split in run.evaluated for row in _rows(split)], text_columns=(0, 1))


def _what(run: RunRecord) -> str:
    if not run.card:
        return "A run that has no network yet."
    classes, masks, model = run.card["classes"], run.card["mask_classes"], run.card["model"]
    tasks = [f"tells {len(classes)} classes apart"] if classes else []
    tasks += [f"finds {', '.join(masks)} pixel by pixel"] if masks else []
    height, width = run.card["data"]["size"]
    return (
        f"A network that {' and '.join(tasks)}: backbone {model['backbone']}, attention {model['attention']}, "
        f"trained on images of {height} x {width} px."
    )


def _tiles(scores: dict[str, Any]) -> Iterator[str]:
    if classes := scores.get("classification"):
        yield _tile("accuracy", classes["accuracy"], classes["accuracy_interval"])
        yield _tile("macro F1", classes["macro_f1"], None)
        if "ece" in classes:
            yield _tile("calibration error", classes["ece"], None)
    masks = list(scores.get("segmentation", {}).get("classes", {}).items())
    for name, one in masks if len(masks) == 1 else masks[1:]:  # of several, the first is the background
        yield _tile(f"IoU of {name}", one["iou"], one["iou_interval"])


def _tile(name: str, value: float | None, bounds: list[float] | None) -> str:
    sure = f"95 %: {interval(bounds)}" if bounds else ""
    return f"<div><span>{escape(name)}</span><b>{number(value)}</b><span>{sure}</span></div>"


def _rows(split: SplitScores) -> Iterator[tuple[str, ...]]:
    if classes := split.scores.get("classification"):
        images, sure = str(classes["images"]), interval(classes["accuracy_interval"])
        yield split.title, "accuracy", number(classes["accuracy"]), sure, images
        yield split.title, "balanced accuracy", number(classes["balanced_accuracy"]), "", images
        yield split.title, "macro F1", number(classes["macro_f1"]), "", images
        yield split.title, "top-5 accuracy", number(classes["top5_accuracy"]), "", images
    masks = split.scores.get("segmentation", {"classes": {}})
    for name, one in masks["classes"].items():
        images, sure = str(masks["images"]), interval(one["iou_interval"])
        yield split.title, f"IoU of {name}", number(one["iou"]), sure, images
        yield split.title, f"IoU of {name}, mean of images", number(one["iou_per_image"]), "", images
        yield split.title, f"Dice of {name}", number(one["dice"]), "", images
