"""Rows hold the predicted class, its probability, the top classes and area fractions; CSV reads back."""

import csv
import io
from typing import NamedTuple

import numpy as np
import pytest

from mnsa.inference.prediction_table import (
    PredictionTable,
    area_fractions,
    caption,
    mask_values,
    predicted_class,
    top_classes,
)
from mnsa.structures import UNKNOWN

CLASSES, LAYERS = ("ash", "elm", "oak"), ("background", "leaf", "vein")


class Arrays(NamedTuple):
    """The arrays of a prediction."""

    class_probs: np.ndarray | None = None
    mask: np.ndarray | None = None
    scale: float | None = None
    confidence: float | None = None
    warning: str = ""


PREDICTION = Arrays(np.array([0.2, 0.7, 0.1], np.float32), np.array([[0, 1], [2, 1]], np.uint8))


def test_a_row_has_a_value_for_every_column_but_the_error() -> None:
    table = PredictionTable(CLASSES, LAYERS, trait_columns=("vein_count",))
    row = table.row(PREDICTION, "leaf.jpg", {"vein_count": "3"})
    assert row == {
        "image": "leaf.jpg",
        "predicted": "elm",
        "probability": "0.7000",
        "top5": "elm 0.7000; ash 0.2000; oak 0.1000",
        "area_fraction_background": "0.250000",
        "area_fraction_leaf": "0.500000",
        "area_fraction_vein": "0.250000",
        "vein_count": "3",
    }
    assert table.columns == [*row, "error"]


def test_top_k_limits_the_classes_and_names_the_column() -> None:
    table = PredictionTable(CLASSES, (), top_k=2)
    assert table.columns == ["image", "predicted", "probability", "top2", "error"]
    assert table.row(PREDICTION._replace(mask=None), "a")["top2"] == "elm 0.7000; ash 0.2000"
    assert PREDICTION.class_probs is not None
    ((name, probability),) = top_classes(PREDICTION.class_probs, CLASSES, 1)
    assert name == "elm"
    assert probability == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("threshold", "predicted"), [(None, "elm"), (0.0, "elm"), (0.69, "elm"), (0.71, UNKNOWN), (1.0, UNKNOWN)]
)
def test_below_the_threshold_the_class_is_unknown_and_the_top_classes_stay(
    threshold: float | None, predicted: str
) -> None:
    row = PredictionTable(CLASSES, LAYERS, threshold=threshold).row(PREDICTION, "a")
    assert row["predicted"] == predicted
    assert row["probability"] == "0.7000"
    assert row["top5"].startswith("elm 0.7000")


def test_a_probability_equal_to_the_threshold_is_enough() -> None:
    assert predicted_class(np.array([0.25, 0.75]), ("a", "b"), 0.75) == "b"


def test_a_network_of_one_task_has_the_columns_of_that_task() -> None:
    classifier, segmenter = PredictionTable(CLASSES, ()), PredictionTable((), ("vein",))
    assert classifier.columns == ["image", "predicted", "probability", "top5", "error"]
    assert segmenter.columns == ["image", "area_fraction_vein", "error"]
    mask = np.array([[0, 1, 1, 1]], np.uint8)
    assert segmenter.row(Arrays(None, mask), "a") == {"image": "a", "area_fraction_vein": "0.750000"}


def test_a_check_of_veins_has_columns_before_the_error() -> None:
    table = PredictionTable((), ("vein",), trait_columns=("vein_count",), checks_veins=True)
    assert table.columns == ["image", "area_fraction_vein", "vein_count", "scale", "confidence", "warning", "error"]
    row = table.row(Arrays(None, np.zeros((2, 2)), 0.25, 0.12345, "no leaf found"), "a")
    assert {name: row[name] for name in table.columns[-4:-1]} == {
        "scale": "0.250000", "confidence": "0.1235", "warning": "no leaf found",
    }  # fmt: skip


def test_a_single_mask_class_has_value_1_and_several_count_from_0() -> None:
    assert mask_values(("vein",)) == [(1, "vein")]
    assert mask_values(LAYERS) == [(0, "background"), (1, "leaf"), (2, "vein")]
    assert area_fractions(np.array([[0, 0, 0, 2]]), LAYERS) == {"background": 0.75, "leaf": 0.0, "vein": 0.25}


def test_values_are_numbers_where_rows_are_text() -> None:
    values = PredictionTable(CLASSES, LAYERS).values(PREDICTION, "a")
    assert values["probability"] == pytest.approx(0.7)
    assert values["area_fraction_leaf"] == 0.5
    assert values["predicted"] == "elm"


def test_csv_reads_back_even_with_line_breaks_quotes_and_undecodable_names() -> None:
    table = PredictionTable(CLASSES, LAYERS)
    rows = [table.row(PREDICTION, 'a\n"b", \udcff.jpg'), table.error_row("c.jpg", "no image")]
    file = io.StringIO()
    table.write_csv(file, rows)
    text = file.getvalue()
    assert text.splitlines()[0] == ",".join(table.columns)
    assert "\r" not in text
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["image"] for row in read] == ['a\n"b", \udcff.jpg', "c.jpg"]
    assert [(row["predicted"], row["error"]) for row in read] == [("elm", ""), ("", "no image")]


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a", "-a", "@a", "\ta", "\ra"])
def test_names_that_a_spreadsheet_would_run_are_escaped_on_request(name: str) -> None:
    escaping, plain = PredictionTable((), (), escape_formulas=True), PredictionTable((), ())
    assert escaping.row(Arrays(), name)["image"] == escaping.error_row(name, "")["image"] == f"'{name}"
    assert escaping.error_row("a", name) == {"image": "a", "error": f"'{name}"}
    assert plain.row(Arrays(), name)["image"] == name


def test_the_caption_is_the_class_with_its_probability_or_empty_without_classes() -> None:
    assert caption({"image": "a/leaf.jpg", "predicted": "elm", "probability": "0.6951"}) == "elm 70%"
    assert caption({"image": "a/leaf.jpg"}) == ""
