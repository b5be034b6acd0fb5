from pathlib import Path

import pytest

from mnsa.data.rows import read_csv
from mnsa.errors import DataError


def test_a_row_knows_its_line_even_after_a_cell_with_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('image,note\n"a.png","two\nlines"\n\nb.png,x\n')
    columns, lines = read_csv(path)
    assert columns == ("image", "note")
    assert [line.cells["image"] for line in lines] == ["a.png", "b.png"]
    assert lines[1].location == f"{path}, line 5"


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("image,label\na.png,x\n".encode("utf-8-sig"))
    assert read_csv(path)[0] == ("image", "label")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"image,image\n", "must be different"),
        (b"image,\n", "not empty"),
        (b"image,label\na.png\n", "line 2: has 1 cells; the header has 2"),
        (b"image,label\na.png,x,y\n", "line 2: has 3 cells"),
        (b"image\n\xff\xfe\n", "not UTF-8"),
        (b'image\n"never closed\n', "can't be read as CSV"),
    ],
)
def test_a_broken_table_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_csv(path)
    assert str(path) in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*gone\.csv"):
        read_csv(tmp_path / "gone.csv")
