"""Reading CSV files: lines, encodings, and errors with file and line."""

from pathlib import Path

import pytest

from mnsa.data.findings import Finding
from mnsa.data.rows import is_empty_word, is_layout_word, parse_px_per_mm, read_csv
from mnsa.errors import DataError


def test_a_location_has_the_line_even_after_a_cell_with_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('image,note\n"a.png","two\nlines"\n\nb.png,x\n')
    columns, rows = read_csv(path)
    assert columns == ("image", "note")
    assert [row.cells["image"] for row in rows] == ["a.png", "b.png"]
    assert rows[1].location == f"{path}, line 5"


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("image,label\na.png,x\n".encode("utf-8-sig"))
    assert read_csv(path)[0] == ("image", "label")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"image,image\n", "must be different"),
        (b"image,,label\n", "not empty"),
        (b"image,label\na.png\n", "line 2: has 1 cells; the header has 2"),
        (b"image,label\na.png,x,y\n", "line 2: has 3 cells"),
        (b"image\n\xff\xfe\n", "not UTF-8"),
        (b'image\n"never closed\n', "can't be read as CSV"),
    ],
)
def test_an_invalid_table_is_refused_with_its_path(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "invalid.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_csv(path)
    assert str(path) in str(caught.value)


def test_rows_with_a_wrong_number_of_cells_are_reported_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,label\na.png\nb.png,x\n")
    findings: list[Finding] = []
    _, rows = read_csv(path, findings.append)
    assert [row.cells["image"] for row in rows] == ["b.png"]
    assert [(finding.kind, finding.location) for finding in findings] == [("bad-row", f"{path}, line 2")]


def test_a_missing_table_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*gone\.csv"):
        read_csv(tmp_path / "gone.csv")


@pytest.mark.parametrize(("text", "expected"), [("", None), ("11.8", 11.8), ("1e2", 100.0)])
def test_a_scale_is_a_positive_number_or_empty(text: str, expected: float | None) -> None:
    assert parse_px_per_mm(text, "here") == expected


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "1e999", "wide"])
def test_an_invalid_scale_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="here: px_per_mm is"):
        parse_px_per_mm(text, "here")


@pytest.mark.parametrize(
    "name", ["Test", "train_images", "GroundTruth", "JPEGImages", "labelsTr", "train2017", "trainA", "leaf masks"]
)
def test_words_of_a_layout_are_found_in_names(name: str) -> None:
    assert is_layout_word(name)


@pytest.mark.parametrize(
    "name", ["class1", "test leaf", "Valencia", "masked", "data", "tr", "imago", "叶子", "Trainer", ""]
)
def test_other_names_are_no_words_of_a_layout(name: str) -> None:
    assert not is_layout_word(name)


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "N/A", "<NA>", "None", "null"])
def test_texts_for_an_empty_cell_are_known(text: str) -> None:
    assert is_empty_word(text)
    assert not is_empty_word(f"{text} 1")
