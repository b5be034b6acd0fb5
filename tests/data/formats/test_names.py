"""Class names and listed files as tools of other systems write them."""

import unicodedata
from pathlib import Path

import pytest

from mnsa.data.formats.names import FileNames, ListedImages, clean_class_name
from mnsa.errors import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "text", [COMPOSED, DECOMPOSED, f" {DECOMPOSED}\t", f"{COMPOSED}\u200b", f"\ufeff{COMPOSED}\xa0"]
)
def test_spellings_of_a_class_become_one(text: str) -> None:
    assert clean_class_name(text, "here") == COMPOSED


@pytest.mark.parametrize(("value", "name"), [(7, "7"), ("001", "001"), ("a b", "a b"), ("Rust", "Rust")])
def test_numbers_become_text_and_other_differences_stay(value: object, name: str) -> None:
    assert clean_class_name(value, "here") == name


@pytest.mark.parametrize("value", ["", " ", "\u200b", None, True, 1.5, [], "a\nb", "a\0"])
def test_what_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="here has the label"):
        clean_class_name(value, "here")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_file_is_found_in_another_case_or_form_unless_several_fit(tmp_path: Path) -> None:
    touch(tmp_path, f"{DECOMPOSED}/IMG_1.JPG", "a.png", "A.png")
    files = FileNames()
    assert files.find(tmp_path, f"{COMPOSED}/img_1.jpg") == f"{DECOMPOSED}/IMG_1.JPG"
    assert files.find(tmp_path, "a.png") == "a.png"
    assert files.find(tmp_path, "a.PNG") is None
    assert files.find(tmp_path, "b/c.png") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("set/a/1.png", "set/a/1.png"),
        ("./set//a/1.png", "set/a/1.png"),
        ("set\\a\\1.png", "set/a/1.png"),
        (r"C:\Users\me\set\a\1.png", "set/a/1.png"),
        ("/data/upload/2/2.png", "2.png"),
        ("../../label-studio/media/2.png", "2.png"),
        ("https://host/x/2.png", "2.png"),
        ("my%20photo.png", "my photo.png"),
        ("images/2.PNG", "2.png"),
    ],
)
def test_an_image_is_found_without_the_folders_of_another_machine(tmp_path: Path, text: str, found: str) -> None:
    touch(tmp_path, "set/a/1.png", "1.png", "2.png", "my photo.png")
    assert ListedImages(tmp_path).find(text, "here") == found


@pytest.mark.parametrize(
    "text", ["set/a/2.png", "../outside.png", "/etc/hostname", "", None, "a\0.png", "set/a", "x.png"]
)
def test_another_image_of_the_same_name_and_files_outside_are_not_taken(tmp_path: Path, text: str | None) -> None:
    touch(tmp_path, "images/set/a/1.png", "images/2.png", "outside.png")
    with pytest.raises(DataError, match="here"):
        ListedImages(tmp_path / "images").find(text, "here")


def test_an_image_is_found_beside_the_file_that_lists_it(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "valid/1.png", "1.png")
    assert ListedImages(tmp_path).find("1.png", "here", place="valid") == "valid/1.png"
    assert ListedImages(tmp_path).find("../old/1.png", "here", place="train") == "train/1.png"
