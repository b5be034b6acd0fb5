"""Patterns match images, each once; every image has a name of its own for its output files."""

import shutil
from pathlib import Path

import pytest

from mnsa.batch.image_files import find_images, unique_names
from mnsa.errors import DataError


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
    with pytest.raises(DataError, match="names no image file"):
        find_images([pattern])


def test_names_are_stems_with_a_number_where_two_images_have_the_same() -> None:
    images = [Path(name) for name in ("a/x.jpg", "b/X.png", "c/x-2.jpg", "d/x.tif", "e/y.jpg")]
    assert unique_names(images) == ["x", "X-2", "x-2-2", "x-3", "y"]


def test_a_thousand_images_of_one_name_have_different_names() -> None:
    names = unique_names([Path(f"{n}/leaf.jpg") for n in range(1000)])
    assert len(set(names)) == 1000
    assert names[999] == "leaf-1000"
