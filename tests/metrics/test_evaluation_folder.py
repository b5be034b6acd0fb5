"""A split's folder of answers: written whole, replaced whole, read back as it was."""

import pytest

from mnsa.errors import RunError
from mnsa.metrics.evaluation_folder import (
    evaluation_folder,
    read_image_rows,
    replace_evaluation_folder,
    write_image_rows,
)
from mnsa.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    return evaluation_folder(RunFolder(tmp_path), "test/trees")


def fill(folder, rows, columns=("image", "iou")):
    with replace_evaluation_folder(folder) as unfinished:
        write_image_rows(unfinished, columns, rows)
        unfinished.image_path(3, "truth").write_bytes(b"picture")


def test_names_hold_anything_and_missing_numbers_are_empty(folder):
    name = 'a "b", c\r\nd;\te.jpg'
    fill(folder, [{"image": name, "iou": 0.123456789}, {"image": "b.jpg"}])
    assert [dict(row) for row in read_image_rows(folder)] == [
        {"image": name, "iou": "0.123457"},
        {"image": "b.jpg", "iou": ""},
    ]


def test_a_later_evaluation_stands_in_the_place_of_the_earlier(folder, tmp_path):
    fill(folder, [{"image": "a.jpg"}, {"image": "b.jpg"}])
    (folder.path / "pictures" / "000009_truth.jpg").touch()
    fill(folder, [{"image": "c.jpg"}])
    assert [row["image"] for row in read_image_rows(folder)] == ["c.jpg"]
    assert [path.name for path in (folder.path / "pictures").iterdir()] == ["000003_truth.jpg"]
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["test-trees"]


def test_one_that_breaks_off_leaves_the_earlier(folder, tmp_path):
    fill(folder, [{"image": "a.jpg"}])
    with pytest.raises(ZeroDivisionError):
        fill(folder, ({"image": 1 / (3 - n)} for n in range(9)))
    assert [row["image"] for row in read_image_rows(folder)] == ["a.jpg"]
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["test-trees"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "predictions").write_text("in the way")
    with pytest.raises(RunError, match=r"predictions/val can't be written"):
        fill(evaluation_folder(RunFolder(tmp_path), "val"), [])
