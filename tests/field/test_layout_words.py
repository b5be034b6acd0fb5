"""Words of a layout in any case: they are read, or refused by name; they never become classes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from field_inputs import IMPORTS, Command, write_photo, write_vein

from mnsa.data.manifest import read_manifest


def fill(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        is_mask = {"masks", "annotations", "labels", "mask"} & {part.lower() for part in Path(name).parts}
        write_vein(root / name) if is_mask else write_photo(root / name, number)


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("verb", ["folders", "zip"])
@pytest.mark.parametrize("masks", ["masks", "mask", "annotations", "labels"])
def test_images_beside_masks_are_no_classes(
    mnsa: Command, tmp_path: Path, case: Callable[[str], str], verb: str, masks: str
) -> None:
    names = [f"{case(kind)}/{number}.png" for kind in ("images", masks) for number in range(3)]
    fill(tmp_path / "in", names)
    ending = mnsa(*IMPORTS[verb].arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ()
    assert len(manifest.rows) == 3
    assert all(row.mask for row in manifest.rows)


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("verb", ["folders", "zip"])
@pytest.mark.parametrize("words", [("train", "val", "test"), ("training", "validation", "testing")])
def test_splits_are_no_classes(
    mnsa: Command, tmp_path: Path, case: Callable[[str], str], verb: str, words: tuple[str, ...]
) -> None:
    fill(tmp_path / "in", [f"{case(word)}/{label}/{word}{n}.png" for word in words for label in "ab" for n in "12"])
    assert mnsa(*IMPORTS[verb].arguments(tmp_path / "in", tmp_path / "out")).code == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ("a", "b")
    assert [len(manifest.split(split).rows) for split in ("train", "val", "test")] == [4, 4, 4]


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_mask_folders_of_splits_are_read_in_any_case(mnsa: Command, tmp_path: Path, case: Callable[[str], str]) -> None:
    fill(tmp_path / "in", [f"{k}/{w}/{w}{n}.png" for k in ("images", "masks") for w in ("train", "val") for n in "12"])
    for folder in ("train", "val"):
        (tmp_path / "in/images" / folder).rename(tmp_path / "in/images" / f"{case(folder)}.new")
        (tmp_path / "in/images" / f"{case(folder)}.new").rename(tmp_path / "in/images" / case(folder))
    assert mnsa(*IMPORTS["masks"].arguments(tmp_path / "in", tmp_path / "out")).code == 0
    assert all(row.mask for row in read_manifest(tmp_path / "out").rows)


@pytest.mark.parametrize("listed", ["train/images", "./train/images", "../train/images", "Train/Images", "", None])
@pytest.mark.parametrize("case", [str.lower, str.title])
def test_yolo_folders_are_found_as_the_tools_list_them(
    mnsa: Command, tmp_path: Path, listed: str | None, case: Callable[[str], str]
) -> None:
    make, _, arguments, count = IMPORTS["yolo"]
    make(tmp_path / "in")
    for name in ("images", "labels"):
        (tmp_path / "in/train" / name).rename(tmp_path / "in/train" / f"{name}.new")
        (tmp_path / "in/train" / f"{name}.new").rename(tmp_path / "in/train" / case(name))
    lines = "names: [vein]\nval: ../valid/images\n" + ("" if listed is None else f"train: {listed}\n")
    (tmp_path / "in/data.yaml").write_text(lines)
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0, ending
    assert "valid/images of split val does not exist" in " ".join(ending.out.split())
    assert sum(bool(row.mask) for row in read_manifest(tmp_path / "out").rows) == count


@pytest.mark.parametrize("word", ["train", "valid", "val", "validation", "test", "Test"])
def test_a_class_folder_named_like_a_split_is_refused(refused: Callable[..., str], tmp_path: Path, word: str) -> None:
    fill(tmp_path / "in", [f"train/{word}/1.png", "train/healthy/2.png"])
    message = refused("import", "folders", tmp_path / "in", "--out", tmp_path / "out")
    assert f"train/{word}/1.png: {word!r} would be a class" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["masks", "images", "train", "valid", "val", "test", "labels", "Annotations"])
def test_a_class_of_a_table_named_like_a_folder_is_said(mnsa: Command, tmp_path: Path, word: str) -> None:
    make, _, arguments, _ = IMPORTS["csv"]
    make(tmp_path / "in")
    table = tmp_path / "in/table.csv"
    table.write_text(table.read_text().replace(",a\n", f",{word}\n"))
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code == 0
    assert f"names of splits or of masks: {word}" in ending.out


@pytest.mark.parametrize("verb", ["folders", "zip", "csv"])
@pytest.mark.parametrize("name", ["unknown", "Unknown"])
def test_a_class_named_unknown_is_refused(refused: Callable[..., str], tmp_path: Path, verb: str, name: str) -> None:
    make, _, arguments, _ = IMPORTS[verb]
    make(tmp_path / "in")
    (tmp_path / "in/a").rename(tmp_path / "in" / name)
    table = tmp_path / "in/table.csv"
    if table.exists():
        table.write_text(table.read_text().replace("a/", f"{name}/").replace(",a\n", f",{name}\n"))
    assert f"a class can't be named {name!r}" in refused(*arguments(tmp_path / "in", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
