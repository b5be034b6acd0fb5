"""The tables fit a terminal of 80 columns and say what evaluation.json says."""

import io

import pytest
from rich.console import Console

from mnsa.cli.tables import head_table, score_tables

CLASSES = {
    "accuracy": 0.875, "accuracy_interval": [0.75, 1.0], "balanced_accuracy": 0.8625, "macro_f1": 0.8512,
    "top5_accuracy": 1.0,
}  # fmt: skip
VEIN = {
    "iou": 0.5312, "iou_interval": [0.5123, 0.5519], "dice": 0.6939, "iou_per_image": 0.5276, "dice_per_image": 0.6881,
    "images_empty": 3,
}  # fmt: skip
NOTHING = {**dict.fromkeys(VEIN), "images_empty": 24}


@pytest.fixture
def shown():
    """The lines of an evaluation's tables on a terminal of 80 columns."""

    def show(**tasks):
        console = Console(width=80, file=io.StringIO(), soft_wrap=True)
        for table in score_tables({"dataset": "leaves", "images": 24, **tasks}, "test"):
            console.print(table)
        return console.file.getvalue()

    return show


def masks(**classes):
    return {"images": 24, "classes": classes}


def test_every_score_is_shown_whole(shown):
    text = shown(classification=CLASSES, segmentation=masks(vein=VEIN))
    for number in ("0.875", "0.750", "1.000", "0.863", "0.851", "0.531", "0.512", "0.552", "0.694", "0.528", "0.688"):
        assert number in text
    assert "…" not in text


def test_no_line_is_wider_than_the_terminal(shown):
    long_names = masks(**{"a mask class with quite a long name of its own": VEIN, "b": VEIN})
    assert max(map(len, shown(classification=CLASSES, segmentation=long_names).splitlines())) <= 80


def test_the_title_says_what_was_scored(shown):
    assert "leaves, split test, 24 images" in shown(classification=CLASSES)


def test_a_task_that_was_not_scored_has_no_table(shown):
    assert "accuracy" not in shown(segmentation=masks(vein=VEIN))
    assert "IoU" not in shown(classification=CLASSES)


def test_a_mask_class_that_never_occurs_has_no_score(shown):
    (row,) = (line for line in shown(segmentation=masks(lesion=NOTHING)).splitlines() if "lesion" in line)
    assert row.count("none") == 4


def test_two_heads_stand_side_by_side():
    console = Console(width=80, file=io.StringIO())
    heads = {"network": {"accuracy": 0.5, "log_loss": 1.25}, "trees": {"accuracy": 0.625, "log_loss": 1.0}}
    console.print(head_table(heads, "leaves, split val, 8 images"))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["│", "network", "│", "0.500", "│", "1.250", "│"] in rows
    assert ["│", "trees", "│", "0.625", "│", "1.000", "│"] in rows
