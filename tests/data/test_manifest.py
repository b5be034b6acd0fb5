import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnsa.data.manifest import Manifest, Row, new_dataset_folder, read_manifest, write_manifest, write_manifest_files
from mnsa.data.rows import is_inside_root
from mnsa.errors import DataError
from mnsa.structures import NO_LABEL

TOML = 'name = "n"\nclasses = ["a", "b"]\nmask_classes = ["vein"]\n'

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
paths = words.filter(lambda word: "/" not in word and is_inside_root(word))
rows = st.builds(
    Row,
    image=paths,
    mask=st.just("") | paths,
    label=st.sampled_from(["", "a", "b, or not b", 'c"']),
    split=st.sampled_from(["", "train", "val", "test"]),
    px_per_mm=st.none() | st.floats(0.001, 1e6),
    extra=st.fixed_dictionaries({"severity": words}),
)


def written(folder: Path, table: str, toml: str = TOML) -> Path:
    (folder / "manifest.csv").write_text(table)
    (folder / "dataset.toml").write_text(toml)
    return folder


@given(st.lists(rows, min_size=1, max_size=5, unique_by=lambda row: row.image))
def test_what_is_written_is_read_back(some_rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "photos"
        manifest = Manifest("drawn", root, ("a", "b, or not b", 'c"'), ("vein",), tuple(some_rows))
        write_manifest(manifest, Path(folder) / "set")
        assert read_manifest(Path(folder) / "set") == manifest


def test_line_ends_of_every_kind_inside_a_cell_are_read_back(tmp_path: Path) -> None:
    notes = "first\rsecond\nthird\r\nfourth"
    manifest = Manifest("drawn", tmp_path.resolve(), (), (), (Row("x.png", extra={"notes": notes}),))
    write_manifest(manifest, tmp_path / "set")
    assert read_manifest(tmp_path / "set") == manifest


def test_the_root_is_relative_to_the_folder_unless_it_is_absolute(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    written(folder, "image\nx.png\n", 'root = "../photos"\n')
    manifest = read_manifest(folder)
    assert manifest.root == tmp_path.resolve() / "photos"
    assert manifest.name == "set"
    assert manifest.image_path(manifest.rows[0]) == manifest.root / "x.png"


def test_a_split_holds_its_own_rows_and_an_absent_label_has_an_index_of_its_own(leaves: Manifest) -> None:
    assert {row.split for row in leaves.split("val").rows} == {"val"}
    assert len(leaves.split("train").rows) + len(leaves.split("val").rows) == len(leaves.rows)
    assert [leaves.label_index(row) for row in leaves.rows[:3]] == [0, 1, 0]
    assert leaves.label_index(Row("x.png")) == NO_LABEL


def test_columns_nobody_knows_are_kept(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, "image,true_length_mm\nx.png,12.5\n"))
    assert manifest.rows[0].extra == {"true_length_mm": "12.5"}
    write_manifest(manifest, tmp_path / "again")
    with (tmp_path / "again" / "manifest.csv").open() as file:
        assert next(csv.DictReader(file))["true_length_mm"] == "12.5"


def test_the_digest_follows_the_content_and_not_the_place(leaves: Manifest) -> None:
    relabelled = replace(leaves, rows=(replace(leaves.rows[0], label="b"), *leaves.rows[1:]))
    assert replace(leaves, root=Path("/elsewhere")).digest() == leaves.digest()
    assert relabelled.digest() != leaves.digest()
    assert replace(leaves, classes=("b", "a")).digest() != leaves.digest()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("picture\nx.png\n", "no column 'image'; its columns are picture"),
        ("image\n", "lists no images"),
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
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, table: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(written(tmp_path, table))
    assert str(tmp_path / "manifest.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("classes = 3", "classes is 3"),
        ('classes = ["a", "a"]', "must differ"),
        ("classes = [", "can't be read as TOML"),
        ("name = 3", "must be text"),
        ('klasses = ["a"]', "unknown keys klasses"),
    ],
)
def test_a_bad_description_is_named(tmp_path: Path, toml: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_manifest(written(tmp_path, "image\nx.png\n", toml))
    assert str(tmp_path / "dataset.toml") in str(caught.value)


def test_masks_without_mask_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no mask_classes"):
        read_manifest(written(tmp_path, "image,mask\nx.png,m.png\n", ""))


def test_a_folder_without_the_two_files_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.toml.*is no data set.*mnsa import"):
        read_manifest(tmp_path)


def test_a_link_out_of_the_root_is_refused_when_it_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    manifest = Manifest("n", root.resolve(), (), (), (Row("link.png"),))
    with pytest.raises(DataError, match=r"link\.png is a link to .*secret\.png, outside"):
        manifest.image_path(manifest.rows[0])


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path, leaves: Manifest) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(DataError, match=r"set exists already.*Choose another"):
        write_manifest(leaves, folder)
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path, leaves: Manifest) -> None:
    wrong = replace(leaves, rows=(*leaves.rows, Row("x.png", label="unheard of")))
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"Row 15 \(x\.png\): label 'unheard of'"):
        write_manifest(wrong, tmp_path / "set")
    assert set(tmp_path.iterdir()) == before


def test_a_fresh_folder_appears_whole_with_its_own_root(tmp_path: Path) -> None:
    with new_dataset_folder(tmp_path / "deep" / "set") as folder:
        (folder / "x.png").touch()
        write_manifest_files(Manifest("n", folder.resolve(), (), (), (Row("x.png"),)), folder)
        assert not (tmp_path / "deep" / "set").exists()
    manifest = read_manifest(tmp_path / "deep" / "set")
    assert manifest.image_path(manifest.rows[0]).exists()
