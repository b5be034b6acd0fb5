"""Which files of a folder are its images."""

import shutil
from pathlib import Path, PurePosixPath

import pytest

from mnsa.data.paths import casefold_name, find_images, is_image_name, list_image_files, unique_names
from mnsa.errors import DataError

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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders with files that are no images; both have a file `twin`."""
    for name in ("twin.jpg", "other.png", "deep/twin.PNG", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no image")
    return tmp_path / "photos"


def test_folders_files_and_globs_match_each_image_once(photos: Path) -> None:
    everything = find_images([str(photos)])
    assert [path.relative_to(photos).as_posix() for path in everything] == ["deep/twin.PNG", "other.png", "twin.jpg"]
    assert find_images([str(photos / "*.jpg"), str(photos / "twin.jpg"), str(photos)])[0] == photos / "twin.jpg"
    assert len(find_images([str(photos / "*.jpg"), str(photos / "twin.jpg"), str(photos)])) == 3
    assert find_images([str(photos / "**/twin.*")]) == [photos / "deep/twin.PNG", photos / "twin.jpg"]


def test_a_relative_glob_starts_in_the_working_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert [path.as_posix() for path in find_images(["*.png", "deep/*"])] == ["other.png", "deep/twin.PNG"]


def test_a_file_whose_name_looks_like_a_glob_is_found(photos: Path) -> None:
    odd = photos / "leaf[1].png"
    shutil.copy(photos / "other.png", odd)
    assert find_images([str(odd)]) == [odd]


@pytest.mark.parametrize("pattern", ["nowhere", "nowhere/*.jpg", "*.xyz"])
def test_a_pattern_without_a_match_is_an_error(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="names no image file") as error:
        find_images([pattern])
    assert ("There is no nowhere" in str(error.value)) == (pattern == "nowhere")


def test_names_are_stems_with_their_folders_where_two_images_have_the_same() -> None:
    images = [Path(name) for name in ("p/a/x.jpg", "p/b/X.png", "p/c/x-2.jpg", "p/y.jpg")]
    assert unique_names(images) == ["a/x", "b/X", "x-2", "y"]
    assert unique_names([Path("p/../q/x.jpg"), Path("x.jpg")]) == ["q/x", "x"]
    assert unique_names([Path("p/x.jpg"), Path("p/deep/x.jpg"), Path("/p/x.jpg")])[0].endswith("/p/x")


def test_names_of_one_folder_have_a_number_where_they_are_the_same() -> None:
    images = [Path(name) for name in ("x.jpg", "X.png", "x-2.jpg", "x.tif")]
    assert unique_names(images) == ["x", "X-2", "x-2-2", "x-3"]


def test_a_thousand_images_of_one_name_have_different_names() -> None:
    names = unique_names([Path(f"{n}/leaf.jpg") for n in range(1000)])
    assert len(set(names)) == 1000
    assert names[999] == "999/leaf"
    names = unique_names([Path("leaf.jpg")] * 1000)
    assert names[999] == "leaf-1000"
