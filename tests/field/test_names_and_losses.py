"""Legal but unusual names work or are named; nothing is lost without a word."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from field_inputs import IMPORTS, TRAITS, Command, count_of, make_photos, rows_of, write_photo, write_vein

from mnsa.data.manifest import read_manifest
from mnsa.data.paths import find_images, unique_names
from mnsa.io import new_folder
from mnsa.run_folder import RunFolder

NOT_UTF8 = os.fsdecode(b"bl\xe4tt.png")
NAMES = {
    "glob": "scan[1].png",
    "two dots": "leaf.1.png",
    "long": "叶" * 82 + "ab.png",  # a stem of 248 bytes
    "space": " leaf .png",
    "markup": "[bold]x[red].png",
    "dash": "-leaf.png",
    "percent": "100%?.png",
    "newline": "a\nb.png",
    "not UTF-8": NOT_UTF8,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", ["folders", "masks"])
def test_an_unusual_name_is_imported_or_named(mnsa: Command, tmp_path: Path, verb: str, name: str) -> None:
    make, photos, arguments, count = IMPORTS[verb]
    make(tmp_path / "in")
    write_photo(tmp_path / "in" / photos / NAMES[name], 9)
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    if name == "newline":  # a table has no such paths
        assert ending.code == 2
        assert "a\\nb.png" in ending.err
        assert not (tmp_path / "out").exists()
        return
    assert ending.code == 0, ending
    assert count_of(tmp_path / "out") == count + (name != "not UTF-8")
    assert ("bl\\udce4tt.png" in ending.out) == (name == "not UTF-8")


def test_a_class_folder_or_root_that_is_not_utf8_is_named(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, _ = IMPORTS["folders"]
    root = tmp_path / os.fsdecode(b"\xe4")
    make(root)
    ending = mnsa(*arguments(root, tmp_path / "out"))
    assert ending.code == 2
    assert "\\udce4" in ending.err
    assert "Traceback" not in ending.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_traits_measures_masks_of_any_name(mnsa: Command, tmp_path: Path, name: str) -> None:
    make, _, arguments, count = TRAITS["traits"]
    make(tmp_path / "in")
    write_vein(tmp_path / "in" / NAMES[name])
    assert mnsa(*arguments(tmp_path / "in", tmp_path / "out")).code == 0
    assert [row["error"] for row in rows_of(tmp_path / "out")] == [""] * (count + 1)
    assert str(tmp_path / "in" / NAMES[name]) in [row["mask"] for row in rows_of(tmp_path / "out")]


def test_each_mask_finds_the_leaf_mask_of_its_name(mnsa: Command, tmp_path: Path) -> None:
    for name in NAMES.values():
        write_vein(tmp_path / "in" / name)
        write_vein(tmp_path / "leaves" / name)
    write_vein(tmp_path / "in/leaf.png")
    write_vein(tmp_path / "leaves/leaf.png")
    arguments = ["--leaf-masks", tmp_path / "leaves", "--out", tmp_path / "out"]
    assert mnsa("traits", tmp_path / "in", *arguments).code == 0
    assert len(rows_of(tmp_path / "out")) == len(NAMES) + 1


def test_predict_answers_photos_of_any_name(mnsa: Command, finished: RunFolder, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES.values()):
        write_photo(tmp_path / "in" / name, number)
        write_photo(tmp_path / "in/twins" / name, number)
    (tmp_path / "in/4.avif").touch()
    ending = mnsa("predict", finished.path, tmp_path / "in", "--out", tmp_path / "out")
    assert ending.code == 0, ending
    rows = rows_of(tmp_path / "out")
    assert len({row["mask"] for row in rows}) == len(rows) == 2 * len(NAMES)
    assert all((tmp_path / "out" / row["mask"]).is_file() for row in rows)
    assert "Passed over: files that are no images in a supported format: 1 .avif." in ending.out


def test_names_of_outputs_fit_a_file_system() -> None:
    names = unique_names([Path(folder, "叶" * 83 + "ab.png") for folder in "abc"])
    assert len(set(names)) == 3
    assert max(len(os.fsencode(Path(f"{name}.png").name)) for name in names) <= 255
    assert unique_names([Path(os.fsdecode(b"\xe4" * 251) + ".png")]) == [os.fsdecode(b"\xe4" * 251)]


def test_a_new_folder_may_have_the_longest_name(tmp_path: Path) -> None:
    with new_folder(tmp_path / ("叶" * 85)):
        pass
    assert (tmp_path / ("叶" * 85)).is_dir()


def test_a_folder_whose_name_looks_like_a_glob_holds_globs(tmp_path: Path) -> None:
    make_photos(tmp_path / "scans [1]")
    make_photos(tmp_path / "scans 1")
    found = find_images([str(tmp_path / "scans [1]/*.png")])
    assert [path.parent.name for path in found] == ["scans [1]"] * 2


def add_dataset(photos: Path) -> None:
    (photos / "set").mkdir()
    (photos / "set/manifest.csv").touch()


LOSSES: dict[str, tuple[Callable[[Path], object], str]] = {
    "avif": (lambda photos: (photos / "7.AVIF").touch(), "1 .avif"),
    "raw": (lambda photos: (photos / "7.CR2").touch(), "1 .cr2"),
    "no suffix": (lambda photos: (photos / "IMG").touch(), "1 without suffix"),
    "link": (lambda photos: (photos / "linked").symlink_to(photos.parent), "links to folders, which are not followed:"),
    "empty folder": (lambda photos: (photos / "empty").mkdir(), "folders without images:"),
    "hidden": (lambda photos: (photos / ".7.png").touch(), "hidden and desktop files: 1"),
    "not UTF-8": (lambda photos: write_photo(photos / NOT_UTF8), "names are not UTF-8"),
    "data set": (add_dataset, "mnsa has written:"),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("verb", [*(verb for verb in IMPORTS if verb not in ("coco", "zip")), "traits"])
def test_what_is_passed_over_is_said(mnsa: Command, tmp_path: Path, verb: str, loss: str) -> None:
    make, photos, arguments, count = {**IMPORTS, **TRAITS}[verb]
    make(tmp_path / "in")
    LOSSES[loss][0](tmp_path / "in" / photos)
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert ending.code in (0, 3), ending
    if (verb, loss) == ("traits", "not UTF-8"):
        assert len(rows_of(tmp_path / "out")) == count + 1
        return
    assert count_of(tmp_path / "out") == count
    if verb in ("nnunet", "mganet", "csv") and loss in ("empty folder", "link", "data set"):
        return  # these read no folders below
    assert "Passed over: " in ending.out
    assert LOSSES[loss][1] in ending.out


@pytest.mark.parametrize("verb", [*IMPORTS, "traits"])
def test_nothing_is_said_where_nothing_is_passed_over(mnsa: Command, tmp_path: Path, verb: str) -> None:
    make, _, arguments, _ = {**IMPORTS, **TRAITS}[verb]
    make(tmp_path / "in")
    assert "Passed over" not in mnsa(*arguments(tmp_path / "in", tmp_path / "out")).out


def test_a_zip_says_what_is_not_unpacked(mnsa: Command, tmp_path: Path) -> None:
    make, photos, arguments, count = IMPORTS["zip"]
    make(tmp_path / "in")
    for name in ("7.avif", "8.avif", ".9.png"):
        (tmp_path / "in" / photos / name).touch()
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert count_of(tmp_path / "out") == count
    assert "2 .avif; hidden and desktop files: 1" in ending.out


def test_a_folder_of_unread_photos_is_refused_with_their_formats(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.avif").touch()
    assert "1 .avif" in refused("import", "folders", tmp_path / "in", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def add_unlisted(folder: Path, verb: str) -> str:
    """Add a photo or a mask that belongs to nothing. Returns: what must be said."""
    if verb == "csv":
        write_photo(folder / "a/9.png")
        return "1 images beside those of"
    if verb == "nnunet mask":
        write_vein(folder / "labelsTr/leaf9.png")
        return "1 masks of labelsTr have no image, such as leaf9.png"
    if verb == "nnunet image":
        write_photo(folder / "imagesTr/leaf9_0000.bmp")
        return "1 files are no .png and are left out, such as leaf9_0000.bmp"
    write_vein(folder / "soybean_2_1/l2_mask/999.png")
    return "1 masks of"


@pytest.mark.parametrize("verb", ["csv", "nnunet mask", "nnunet image", "mganet"])
def test_what_belongs_to_no_row_is_said(mnsa: Command, tmp_path: Path, verb: str) -> None:
    make, _, arguments, count = IMPORTS[verb.split(maxsplit=1)[0]]
    make(tmp_path / "in")
    said = add_unlisted(tmp_path / "in", verb)
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert said in ending.out
    assert count_of(tmp_path / "out") == count


def test_unlisted_photos_of_coco_are_said(mnsa: Command, tmp_path: Path) -> None:
    make, _, arguments, count = IMPORTS["coco"]
    make(tmp_path / "in")
    write_photo(tmp_path / "in/images/9.png")
    ending = mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert "1 images of" in ending.out
    assert count_of(tmp_path / "out") == count


@pytest.mark.parametrize("loss", LOSSES)
def test_check_finds_what_an_import_passed_over(mnsa: Command, tmp_path: Path, loss: str) -> None:
    make, photos, arguments, _ = IMPORTS["folders"]
    make(tmp_path / "in")
    mnsa(*arguments(tmp_path / "in", tmp_path / "out"))
    assert "passed-over" not in mnsa("check", tmp_path / "out").out
    LOSSES[loss][0](tmp_path / "in" / photos)
    found = mnsa("check", tmp_path / "out").out
    assert ("passed-over" in found) == (loss in ("avif", "raw", "link", "empty folder"))
    assert ("unlisted-file" in found) == (loss == "not UTF-8")
    assert len(read_manifest(tmp_path / "out").rows) == 4
