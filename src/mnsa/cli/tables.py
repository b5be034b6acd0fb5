"""Scores as tables for the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table


def score_tables(scores: dict[str, Any], split: str) -> Iterator[Table]:
    """The tables of an evaluation: class scores, then one row per mask class."""
    title = escape(f"{scores['dataset']}, split {split}, {scores['images']} images")
    if "classification" in scores:
        yield _class_table(scores["classification"], title)
    if "segmentation" in scores:
        yield _mask_table(scores["segmentation"], title)


def head_table(validation: dict[str, dict[str, float]], title: str) -> Table:
    """One row per class head: its accuracy and log-loss on validation."""
    table = Table(title=escape(title))
    table.add_column("head")
    for name in ("accuracy", "log-loss"):
        table.add_column(name, justify="right")
    for head, scores in validation.items():
        table.add_row(head, _format_number(scores["accuracy"]), _format_number(scores["log_loss"]))
    return table


def export_table(found: dict[str, Any], title: str) -> Table:
    """What the comparison of an exported network with the eager one has found, a line each."""
    table = Table(title=escape(title))
    for name in ("", "eager", "exported"):
        table.add_column(name, justify="right" if name else "left")
    for kind, by_output in found["differences"].items():
        for name, difference in by_output.items():
            table.add_row(f"largest difference of {name}, {kind} images", "", f"{difference:.1e}")
    if found.get("labels"):
        table.add_row("equal labels", "", "{} of {}".format(*found["labels"]))
    if found.get("mask_iou") is not None:
        table.add_row("IoU of the two masks", "", _format_number(found["mask_iou"]))
    for name, *both in _score_pairs(found.get("scores")):
        table.add_row(escape(f"{name}, validation"), *map(_format_number, both))
    table.add_row("file, MB", *(f"{size / 1e6:.1f}" for size in found["bytes"].values()))
    return table


def _score_pairs(scores: dict[str, Any] | None) -> Iterator[tuple[str, float | None, float | None]]:
    if scores is None:
        return
    eager, exported = scores["eager"], scores["exported"]
    if "classification" in eager:
        yield "accuracy", eager["classification"]["accuracy"], exported["classification"]["accuracy"]
    for name, row in eager.get("segmentation", {}).get("classes", {}).items():
        yield f"IoU of {name}", row["iou"], exported["segmentation"]["classes"][name]["iou"]


def _class_table(scores: dict[str, Any], title: str) -> Table:
    table = Table(title=title)
    for name in ("accuracy (95 % interval)", "balanced accuracy", "macro-F1", "top-5"):
        table.add_column(name, justify="right")
    accuracy = _format_with_interval(scores["accuracy"], scores["accuracy_interval"])
    others = [scores["balanced_accuracy"], scores["macro_f1"], scores["top5_accuracy"]]
    if "ece" in scores:
        table.add_column("calibration error", justify="right")
        others.append(scores["ece"])
    table.add_row(accuracy, *map(_format_number, others))
    return table


def _mask_table(scores: dict[str, Any], title: str) -> Table:
    table = Table(title=title)
    table.add_column("mask class")
    for name in ("IoU (95 % interval)", "IoU/image", "Dice", "Dice/image", "empty"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in scores["classes"].items():
        iou = _format_with_interval(row["iou"], row["iou_interval"])
        others = (row["iou_per_image"], row["dice"], row["dice_per_image"])
        table.add_row(escape(name), iou, *map(_format_number, others), str(row["images_empty"]))
    if "iou_upstream" in scores:
        table.caption = f"IoU as the released code computes it: {scores['iou_upstream']:.3f}. It flatters."
    return table


def _format_with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    return _format_number(value) + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")


def _format_number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
