"""Reading and writing the two files of a data set."""

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnsa.data.manifest import (
    Manifest,
    Row,
    new_dataset_folder,
    read_manifest,
    scan_manifest,
    write_manifest,
    write_manifest_files,
)
from mnsa.data.rows import is_inside_root
from mnsa.errors import DataError
from mnsa.structures import NO_LABEL

TOML = 'name = "n"\nclasses = ["a", "b"]\nmask_classes = ["vein"]\n'

CLASSES = ("a", "b, with a comma", 'c"')

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
PATHS = WORDS.filter(lambda word: "/" not in word and is_inside_root(word))
ROWS = st.builds(
    Row,
    image=PATHS,
    mask=st.just("") | PATHS,
    label=st.sampled_from(["", *CLASSES]),
    split=st.sampled_from(["", "train", "val", "test"]),
    px_per_mm=st.none() | st.floats(0.001, 1e6),
    extra=st.fixed_dictionaries({"severity": WORDS}),
)


def write_files(folder: Path, table: str, toml: str = TOML) -> Path:
    (folder / "manifest.csv").write_text(table)
    (folder / "dataset.toml").write_text(toml)
    return folder


@given(st.lists(ROWS, min_size=1, max_size=5, unique_by=lambda row: row.image))
def test_a_written_manifest_is_read_back(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "photos"
        manifest = Manifest("name", root, CLASSES, ("vein",), tuple(rows))
        write_manifest(manifest, Path(folder) / "set")
        assert read_manifest(Path(folder) / "set") == manifest


def test_line_ends_of_every_kind_in_a_cell_are_read_back(tmp_path: Path) -> None:
    notes = "first\rsecond\nthird\r\nfourth"
    manifest = Manifest("name", tmp_path.resolve(), (), (), (Row("x.png", extra={"notes": notes}),))
    write_manifest(manifest, tmp_path / "set")
    assert read_manifest(tmp_path / "set") == manifest


def test_a_relative_root_starts_at_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_files(folder, "image\nx.png\n", 'root = "../photos"\n')
    manifest = read_manifest(folder)
    assert manifest.root == tmp_path.resolve() / "photos"
    assert manifest.name == "set"
    assert manifest.image_path(manifest.rows[0]) == manifest.root / "x.png"


def test_a_split_has_only_its_own_rows(leaves: Manifest) -> None:
    assert {row.split for row in leaves.split("val").rows} == {"val"}
    assert len(leaves.split("train").rows) + len(leaves.split("val").rows) == len(leaves.rows)


def test_a_row_without_a_label_has_no_label_index(leaves: Manifest) -> None:
    assert [leaves.label_index(row) for row in leaves.rows[:3]] == [0, 1, 0]
    assert leaves.label_index(Row("x.png")) == NO_LABEL


def test_extra_columns_are_kept(tmp_path: Path) -> None:
    manifest = read_manifest(write_files(tmp_path, "image,true_length_mm\nx.png,12.5\n"))
    assert manifest.rows[0].extra == {"true_length_mm": "12.5"}
    write_manifest(manifest, tmp_path / "again")
    with (tmp_path / "again" / "manifest.csv").open() as file:
        assert next(csv.DictReader(file))["true_length_mm"] == "12.5"


def test_the_digest_depends_on_the_content_and_not_on_the_root(leaves: Manifest) -> None:
    other_label = replace(leaves, rows=(replace(leaves.rows[0], label="b"), *leaves.rows[1:]))
    assert replace(leaves, root=Path("/elsewhere")).digest() == leaves.digest()
    assert other_label.digest() != leaves.digest()
    assert replace(leaves, classes=("b", "a")).digest() != leaves.digest()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("picture\nx.png\n", "no column 'image'; its columns are picture"),
        ("image\n", "has no rows"),
        ("image,label\n,a\n", "line 2: image is empty"),
        ("image\n/etc/passwd\n", "line 2: image is '/etc/passwd'"),
        ("image\na/../../x.png\n", "line 2: image is 'a/../../x.png'"),
        ("image\na\\x.png\n", "line 2: image is"),
        ("image,mask\nx.png,../m.png\n", "line 2: mask is '../m.png'"),
        ("image,label\nx.png,c\n", "line 2: label 'c' is not in the classes"),
        ("image,split\nx.png,train\ny.png,dev\n", "line 3: split is 'dev'"),
        ("image,px_per_mm\nx.png,wide\n", "line 2: px_per_mm is 'wide'"),
        ("image,px_per_mm\nx.png,-3\n", "line 2: px_per_mm is '-3'"),
        ("image\nx.png\ny.png\nx.png\n", "line 4: image 'x.png' is listed before, at .* line 2"),
        ("image,group,split\nx.png,p,train\ny.png,p,test\n", "line 3: group 'p' is in train and test"),
    ],
)
def test_an_invalid_row_is_refused_with_file_and_line(tmp_path: Path, table: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(write_files(tmp_path, table))
    assert str(tmp_path / "manifest.csv") in str(caught.value)


def test_a_scan_lists_all_problems_and_keeps_the_usable_rows(tmp_path: Path) -> None:
    table = "image,mask,label\nx.png,../m.png,a\n../y.png,,a\nz.png,,c\n./x.png,,a\n"
    manifest, findings = scan_manifest(write_files(tmp_path, table))
    assert [finding.kind for finding in findings] == ["bad-path", "bad-path", "label-unknown", "listed-twice"]
    assert [(row.image, row.mask) for row in manifest.rows] == [("x.png", ""), ("z.png", "")]


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("classes = 3", "classes is 3"),
        ('classes = ["a", "a"]', "must be different"),
        ("classes = [", "can't be read as TOML"),
        ("name = 3", "must be text"),
        ('klasses = ["a"]', "unknown keys klasses"),
    ],
)
def test_an_invalid_dataset_toml_is_refused_with_its_path(tmp_path: Path, toml: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(write_files(tmp_path, "image\nx.png\n", toml))
    assert str(tmp_path / "dataset.toml") in str(caught.value)


def test_masks_without_mask_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no mask_classes"):
        read_manifest(write_files(tmp_path, "image,mask\nx.png,m.png\n", ""))


def test_a_folder_without_the_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.toml.*is no data set.*mnsa import folders .* --out NEW"):
        read_manifest(tmp_path)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    manifest = Manifest("n", root.resolve(), (), (), (Row("link.png"),))
    with pytest.raises(DataError, match=r"link\.png is a link to .*secret\.png, outside"):
        manifest.image_path(manifest.rows[0])


def test_an_existing_folder_is_not_changed(tmp_path: Path, leaves: Manifest) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match=r"set exists already.*Choose another"):
        write_manifest(leaves, folder)
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]


def test_an_invalid_manifest_is_not_written(tmp_path: Path, leaves: Manifest) -> None:
    invalid = replace(leaves, rows=(*leaves.rows, Row("x.png", label="unknown")))
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"Row 15 \(x\.png\): label 'unknown'"):
        write_manifest(invalid, tmp_path / "set")
    assert set(tmp_path.iterdir()) == before


def test_a_new_dataset_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_dataset_folder(tmp_path / "deep" / "set") as folder:
        (folder / "x.png").touch()
        write_manifest_files(Manifest("n", folder.resolve(), (), (), (Row("x.png"),)), folder)
        assert not (tmp_path / "deep" / "set").exists()
    manifest = read_manifest(tmp_path / "deep" / "set")
    assert manifest.image_path(manifest.rows[0]).exists()
