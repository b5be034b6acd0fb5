"""The worst and the best images, in order, with their scores and panels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mnsa.report.gallery import DIFFERENCE_LEGEND, galleries
from mnsa.report.rendering import data_uri
from mnsa.report.run_record import SplitScores, read_run_record
from mnsa.run_folder import RunFolder


@pytest.fixture
def split(reported: RunFolder) -> SplitScores:
    """The training split: twelve images."""
    return next(split for split in read_run_record(reported).evaluated if split.key == "train")


def cards_of(gallery: Any) -> Any:
    return [card for _, cards in gallery.parts for card in cards]


@pytest.mark.slow
def test_masks_come_by_iou_six_worst_and_three_best(split: SplitScores) -> None:
    masks = galleries(split)[0]
    assert [(title, len(cards)) for title, cards in masks.parts] == [("Worst masks", 6), ("Best masks", 3)]
    ious = sorted(float(row["iou"]) for row in split.rows)
    assert [card.text for card in cards_of(masks)] == [f"IoU {iou:.3f}" for iou in [*ious[:6], *reversed(ious[-3:])]]


def test_classes_come_by_the_probability_of_the_true_class_and_a_wrong_prediction_has_both(split: SplitScores) -> None:
    rows = sorted(split.rows, key=lambda row: float(row["true_probability"]))
    best = [row for row in reversed(rows[-3:]) if row["predicted"] == row["label"]]
    for card, row in zip(cards_of(galleries(split)[1]), [*rows[:6], *best], strict=True):
        assert (card.label, card.image) == (row["label"], row["image"])
        assert card.text.startswith(f"predicted {row['predicted']} ({float(row['probability']):.0%})")
        assert ("true class" in card.text) == (row["predicted"] != row["label"])


def test_a_wrong_answer_is_never_one_of_the_best(split: SplitScores) -> None:
    wrong: list[Mapping[str, str]] = [{**row, "predicted": "another"} for row in split.rows]
    parts = dict(galleries(replace(split, rows=wrong))[1].parts)
    assert list(parts) == ["Worst classified"]


def test_each_image_has_its_panels_with_their_names(split: SplitScores) -> None:
    card = cards_of(galleries(split)[0])[0]
    assert [panel.caption for panel in card.panels] == ["image", "true mask", "predicted mask", "difference"]
    index = next(n for n, row in enumerate(split.rows) if row["image"] == card.image)
    assert card.panels[1].uri == data_uri(split.folder.image_path(index, "truth").read_bytes(), "image/jpeg")


def test_the_legend_has_the_colors_of_the_difference() -> None:
    assert {text: color for color, text in DIFFERENCE_LEGEND} == {
        "correct": "#009e73",
        "missed": "#56b4e9",
        "false positive": "#d55e00",
        "wrong class": "#cc79a7",
    }


def test_pictures_that_were_removed_are_left_out(own_reported: RunFolder) -> None:
    for path in (own_reported.predictions_folder / "train" / "pictures").glob("*_truth.jpg"):
        path.unlink()
    split = next(split for split in read_run_record(own_reported).evaluated if split.key == "train")
    captions = {panel.caption for card in cards_of(galleries(split)[0]) for panel in card.panels}
    assert captions == {"image", "predicted mask", "difference"}
