"""The copy for spreadsheets has every value of the table, one per cell, in the form that Excel expects."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.workflows.excel_table import write_excel_table

TABLE = (
    "image,predicted,probability,top3,vein_length_mm,areole_count,error\n"
    "Blätter/Ölbaum.jpg,β-Klasse,0.9000,β-Klasse 0.9000; a; b 0.0700; 橄欖 0.0300,1.5e-05,12,\n"
    '=cmd.jpg,a,0.5,a 0.5000,,0,"broken, at line 1.5"\n'
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "predictions.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path / "predictions.csv"


def test_classes_and_probabilities_have_columns_of_their_own(table: Path) -> None:
    written = write_excel_table(table)
    assert written.read_bytes().startswith(b"\xef\xbb\xbfimage,")
    first, second = csv.DictReader(written.read_text(encoding="utf-8-sig").splitlines())
    assert (first["image"], first["class_1"], first["probability_1"]) == ("Blätter/Ölbaum.jpg", "β-Klasse", "0.9000")
    assert (first["class_2"], first["class_3"], first["probability_3"]) == ("a; b", "橄欖", "0.0300")
    assert (second["image"], second["class_2"], second["probability_2"]) == ("'=cmd.jpg", "", "")
    assert second["error"] == "broken, at line 1.5"
    assert table.read_text(encoding="utf-8") == TABLE


def test_numbers_may_have_a_decimal_comma(table: Path) -> None:
    text = write_excel_table(table, decimal_comma=True).read_text(encoding="utf-8-sig")
    first, second = csv.DictReader(text.splitlines(), delimiter=";")
    assert (first["probability"], first["vein_length_mm"], first["areole_count"]) == ("0,9000", "1,5e-05", "12")
    assert (first["image"], second["error"]) == ("Blätter/Ölbaum.jpg", "broken, at line 1.5")


def test_predict_writes_the_copy_on_request(
    mnsa: Callable[..., Any], finished: Any, dataset: Path, tmp_path: Path
) -> None:
    photo = sorted((dataset / "images").iterdir())[0]
    ended = mnsa("predict", finished.path, photo, "--decimal-comma", "--out", tmp_path / "out")
    assert "predictions-excel.csv" in ended.out
    (own,) = csv.DictReader((tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8").splitlines())
    text = (tmp_path / "out" / "predictions-excel.csv").read_text(encoding="utf-8-sig")
    (copy,) = csv.DictReader(text.splitlines(), delimiter=";")
    assert copy["class_1"] == own["predicted"]
    assert copy["probability_1"].replace(",", ".") == own["probability"]
