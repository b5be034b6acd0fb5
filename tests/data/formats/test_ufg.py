import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from miniature_datasets import STAGES, make_soyageing, make_ufg
from mnsa.data.formats.ufg import import_ufg
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.data.validation.validate import find_errors
from mnsa.errors import DataError

if TYPE_CHECKING:
    from conftest import Finished


@pytest.fixture
def cotton(tmp_path: Path) -> Path:
    """Three cultivars of four images, two for training and two for testing; the last has none for testing."""
    return make_ufg(tmp_path, classes=3, per_class=4, size_px=32)


def write_list(folder: Path, split: str, lines: str, **options: str) -> None:
    (folder / "anno" / f"{split}.txt").write_text(lines, newline="", **options)


def test_lists_give_train_and_test_and_validation_is_held_out(cotton: Path) -> None:
    manifest = import_ufg(cotton)
    assert manifest.classes == ("1", "2", "3")
    assert manifest.mask_classes == ()
    for split, kept in (("test", ["test"]), ("train", ["train", "val"])):
        listed = (cotton / "anno" / f"{split}.txt").read_text().splitlines()
        rows = [row for row in manifest.rows if row.split in kept]
        assert [f"{row.image.removeprefix('images/')} {row.label}" for row in rows] == listed
    assert Counter(row.split for row in manifest.rows) == {"train": 6, "val": 2, "test": 4}


def test_an_imported_data_set_is_written_and_read_back_and_valid(cotton: Path, tmp_path: Path) -> None:
    manifest = import_ufg(cotton, val_fraction=0.5, seed=7)
    write_manifest(manifest, tmp_path / "set")
    assert read_manifest(tmp_path / "set") == manifest
    assert find_errors(manifest) == []


def test_a_validation_list_is_used_unchanged(cotton: Path) -> None:
    first, *others = (cotton / "anno" / "train.txt").read_text().splitlines(keepends=True)
    write_list(cotton, "train", "".join(others))
    write_list(cotton, "val", first)
    assert [f"{row.image[7:]} {row.label}\n" for row in import_ufg(cotton).rows if row.split == "val"] == [first]


def test_windows_line_ends_tabs_byte_order_marks_and_blank_lines_are_ignored(cotton: Path) -> None:
    plain = import_ufg(cotton)
    text = (cotton / "anno" / "train.txt").read_text()
    write_list(
        cotton, "train", "\r\n" + text.replace(".jpg ", ".jpg \t 00").replace("\n", " \r\n\r\n"), encoding="utf-8-sig"
    )
    assert import_ufg(cotton) == plain


def test_images_in_folders_and_capital_suffixes_are_read(cotton: Path) -> None:
    (cotton / "images" / "new").mkdir()
    (cotton / "images" / "cultivar 001_1.jpg").rename(cotton / "images" / "new" / "a.JPG")
    text = (cotton / "anno" / "train.txt").read_text()
    write_list(cotton, "train", text.replace("cultivar 001_1.jpg", "./new//a.JPG"))
    assert "images/new/a.JPG" in {row.image for row in import_ufg(cotton).rows}
    assert find_errors(import_ufg(cotton)) == []


def test_stages_of_soyageing_are_imported_one_by_one_or_together(tmp_path: Path) -> None:
    source = make_soyageing(tmp_path, classes=2, per_class=4, size_px=32)
    pooled = import_ufg(source)
    assert pooled.classes == ("1", "2")
    expected = {
        (f"{stage}/{row.image}", row.label, row.split == "test", stage)
        for stage in STAGES
        for row in import_ufg(source / stage).rows
    }
    assert {(row.image, row.label, row.split == "test", row.extra["stage"]) for row in pooled.rows} == expected
    assert len(pooled.rows) == len(expected) == 40
    assert import_ufg(source / "R3").rows[0].extra == {}
    write_manifest(pooled, tmp_path / "set")
    assert read_manifest(tmp_path / "set") == pooled
    assert find_errors(pooled) == []


def test_a_missing_stage_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_soyageing(tmp_path, classes=2, per_class=2, size_px=32)
    (source / "R4").rename(source / "R2")
    with caplog.at_level(logging.WARNING):
        assert {row.extra["stage"] for row in import_ufg(source).rows} == {"R1", "R3", "R5", "R6"}
    assert caplog.messages == [f"{source} has no stage R4; the stages R1, R3, R5, R6 are imported"]


def test_images_in_no_list_are_left_out_and_counted(cotton: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(import_ufg(cotton).rows) == 12
    assert caplog.messages == []
    lines = (cotton / "anno" / "train.txt").read_text().splitlines(keepends=True)
    write_list(cotton, "train", "".join(lines[2:]))
    with caplog.at_level(logging.WARNING):
        assert len(import_ufg(cotton).rows) == 10
    assert caplog.messages == [
        f"2 files of {cotton}/images are in no list and are left out, such as cultivar 001_1.jpg"
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("cultivar 001_1.jpg 1", r"'cultivar 001_1\.jpg' is listed before, at .*train\.txt, line 1\. List it once"),
        ("./cultivar 001_2.jpg 1", r"'cultivar 001_2\.jpg' is listed before, at .*test\.txt, line 1"),
        ("gone.jpg 1", r"there is no file .*images/gone\.jpg"),
        ("../COTTON/images/x.jpg 1", r"file is '\.\./COTTON/images/x\.jpg'; expected a path inside the root"),
        ("/etc/passwd 1", "file is '/etc/passwd'; expected a path inside the root"),
        ("x\\y.jpg 1", "expected a path inside the root"),
        ("a.jpg 0", "is 'a.jpg 0'; expected `<file> <label>` with a label 1, 2, 3"),
        ("a.jpg -1", "is 'a.jpg -1'; expected"),
        ("a.jpg 1.0", "is 'a.jpg 1.0'; expected"),
        ("a.jpg ²", "is 'a.jpg ²'; expected"),
        ("a.jpg oak", "is 'a.jpg oak'; expected"),
        ("a.jpg " + "9" * 5000, "expected `<file> <label>`"),
        ("a.jpg", "is 'a.jpg'; expected"),
        ("7", "is '7'; expected"),
    ],
)
def test_an_invalid_line_is_an_error(cotton: Path, line: str, reason: str) -> None:
    with (cotton / "anno" / "test.txt").open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(DataError, match=rf"(?s)anno/test\.txt, line 6.*{reason}"):
        import_ufg(cotton)


def test_a_file_that_is_listed_twice_is_an_error(cotton: Path) -> None:
    lines = (cotton / "anno" / "train.txt").read_text()
    write_list(cotton, "train", lines + lines)
    with pytest.raises(DataError, match=r"train\.txt, line 9: .* is listed before, at .*train\.txt, line 1\."):
        import_ufg(cotton)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_list_is_an_error(cotton: Path, split: str) -> None:
    (cotton / "anno" / f"{split}.txt").unlink()
    with pytest.raises(DataError, match=rf"anno/{split}\.txt can't be read: No such file"):
        import_ufg(cotton)


def test_a_list_in_another_encoding_is_an_error(cotton: Path) -> None:
    (cotton / "anno" / "test.txt").write_bytes("棉花.jpg 1\n".encode("gbk"))
    with pytest.raises(DataError, match=r"anno/test\.txt is not UTF-8 text"):
        import_ufg(cotton)


def test_data_sets_in_one_folder_are_not_pooled(cotton: Path) -> None:
    with pytest.raises(DataError, match=r"has no folder anno\. Give the folder of one set, such as data/COTTON"):
        import_ufg(cotton.parent)


def test_empty_lists_are_an_error(cotton: Path) -> None:
    for split in ("train", "test"):
        write_list(cotton, split, "\n")
    with pytest.raises(DataError, match="holds no images"):
        import_ufg(cotton)


def test_the_command_writes_a_data_set(mnsa: "Callable[..., Finished]", cotton: Path, tmp_path: Path) -> None:
    ended = mnsa("import", "ufg", cotton, "--out", tmp_path / "set", "--val-fraction", "0.5", "--seed", 3)
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"12 images, 3 classes, 0 mask classes: {tmp_path / 'set'}")
    assert read_manifest(tmp_path / "set") == import_ufg(cotton, val_fraction=0.5, seed=3)
