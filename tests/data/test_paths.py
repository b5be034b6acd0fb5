"""Which files of a folder are its images."""

from pathlib import Path, PurePosixPath

import pytest

from mnsa.data.paths import casefold_name, is_image_name, list_image_files

IMAGES = ("a.JPG", "b/c.png", "b/d.tiff", "e.webp")
IGNORED = (
    "._a.jpg",
    ".hidden/a.jpg",
    "__MACOSX/a.jpg",
    "b/.ipynb_checkpoints/c.png",
    "Thumbs.db",
    ".DS_Store",
    "x.txt",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*IMAGES, *IGNORED):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_images_are_listed_sorted_and_relative_to_the_folder(folder: Path) -> None:
    assert list_image_files(folder) == [PurePosixPath(name) for name in IMAGES]


def test_folders_below_are_left_out_on_request(folder: Path) -> None:
    assert list_image_files(folder, recursive=False) == [PurePosixPath("a.JPG"), PurePosixPath("e.webp")]


def test_a_folder_named_like_an_image_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert list_image_files(tmp_path) == []


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "b" / "loop").symlink_to(folder)
    assert len(list_image_files(folder)) == len(IMAGES)


def test_a_folder_that_does_not_exist_has_no_images(tmp_path: Path) -> None:
    assert list_image_files(tmp_path / "gone") == []


@pytest.mark.parametrize("name", IMAGES)
def test_a_name_with_an_image_suffix_is_an_image(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", IGNORED)
def test_an_ignored_level_makes_the_whole_path_ignored(name: str) -> None:
    assert not is_image_name(name)


@pytest.mark.parametrize(("one", "other"), [("LEAF.png", "leaf.PNG"), ("bl\u00e4tter", "bla\u0308tter"), ("ẞ", "ss")])
def test_names_that_differ_in_case_or_normalization_fold_to_the_same_text(one: str, other: str) -> None:
    assert casefold_name(one) == casefold_name(other)
    assert casefold_name(one) != casefold_name(f"{other}2")
