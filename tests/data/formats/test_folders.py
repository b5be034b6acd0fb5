from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mnsa.data.formats.folders import import_folders
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.data.validation.validate import find_errors
from mnsa.errors import DataError

Draw = Callable[..., None]


def test_class_folders_become_train_and_held_out_validation(tmp_path: Path, draw_leaf: Draw) -> None:
    for n in range(10):
        draw_leaf(tmp_path / "oak" / f"{n}.jpg")
        draw_leaf(tmp_path / "ash" / f"{n}.JPG")
    (tmp_path / "oak" / "notes.txt").write_text("not an image")
    (tmp_path / "__MACOSX").mkdir()
    draw_leaf(tmp_path / "__MACOSX" / "0.jpg")
    manifest = import_folders(tmp_path, val_fraction=0.3, seed=1)
    assert manifest.classes == ("ash", "oak")
    assert manifest.mask_classes == ()
    assert manifest.root == tmp_path.resolve()
    assert Counter((row.label, row.split) for row in manifest.rows) == {
        ("ash", "train"): 7, ("ash", "val"): 3, ("oak", "train"): 7, ("oak", "val"): 3,
    }  # fmt: skip


def test_split_folders_are_kept_with_normalized_names(tmp_path: Path, draw_leaf: Draw) -> None:
    for split in ("training", "validation", "test"):
        draw_leaf(tmp_path / split / "oak" / f"{split}.png")
    manifest = import_folders(tmp_path)
    assert {row.image: row.split for row in manifest.rows} == {
        "training/oak/training.png": "train", "validation/oak/validation.png": "val", "test/oak/test.png": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("oak/1.jpg", "masks/oak/1.png"),
        ("oak/1.jpg", "mask/1.png"),
        ("images/oak/1.jpg", "annotations/oak/1.png"),
        ("train/oak/1.jpg", "masks/train/oak/1.png"),
        ("train/oak/1.jpg", "train/masks/oak/1.png"),
        ("train/oak/1.jpg", "train/masks/1.png"),
        ("train/oak/1.jpg", "masks/oak/1.png"),
        ("train/images/oak/1.jpg", "train/masks/1.png"),
        ("images/1.jpg", "masks/1.png"),
    ],
)
def test_a_mask_is_found_by_its_stem_mirrored_or_flat(tmp_path: Path, draw_leaf: Draw, image: str, mask: str) -> None:
    draw_leaf(tmp_path / image, tmp_path / mask)
    row = import_folders(tmp_path).rows[0]
    assert (row.image, row.mask) == (image, mask)
    assert row.label == ("oak" if "oak" in image else "")


@pytest.mark.parametrize(
    ("values", "expected"),
    [((1, 1), ("foreground",)), ((255, 255), ("foreground",)), ((1, 3), ("background", "class1", "class2", "class3"))],
)
def test_mask_classes_are_inferred_from_pixel_values(
    tmp_path: Path, draw_leaf: Draw, values: tuple[int, ...], expected: tuple[str, ...]
) -> None:
    for n, value in enumerate(values):
        draw_leaf(tmp_path / "oak" / f"{n}.jpg", tmp_path / "masks" / f"{n}.png", mask_value=value)
    assert import_folders(tmp_path).mask_classes == expected


def test_mask_classes_can_be_named(tmp_path: Path, draw_leaf: Draw) -> None:
    draw_leaf(tmp_path / "oak" / "1.jpg", tmp_path / "masks" / "1.png", mask_value=2)
    assert import_folders(tmp_path, mask_classes=["background", "leaf", "rust"]).mask_classes[2] == "rust"


def test_an_imported_data_set_is_written_and_read_back_and_valid(tmp_path: Path, draw_leaf: Draw) -> None:
    for n in range(4):
        draw_leaf(tmp_path / "photos" / "oak" / f"{n}.jpg", tmp_path / "photos" / "masks" / f"{n}.png")
    manifest = import_folders(tmp_path / "photos")
    write_manifest(manifest, tmp_path / "set")
    assert read_manifest(tmp_path / "set") == manifest
    assert find_errors(manifest) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["a/b/c/1.png"], r"a/b/c/1\.png lies 3 folders deep"),
        (["1.png"], r"1\.png lies in no class folder and has no mask.*mnsa import masks"),
        (["train/oak/1.png", "ash/2.png"], r"ash/2\.png lies in none"),
        (["oak/1.png", "ash/1.png", "masks/1.png"], r"masks/1\.png fits both ash/1\.png and oak/1\.png"),
        (["oak/1.jpg", "masks/1.png", "mask/1.png"], r"mask/1\.png and masks/1\.png belong to the same image"),
        (["readme.txt"], "holds no images"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(tmp_path: Path, draw_leaf: Draw, files: list[str], reason: str) -> None:
    for file in files:
        if file.endswith(".txt"):
            (tmp_path / file).touch()
        else:
            draw_leaf(tmp_path / file)
    with pytest.raises(DataError, match=reason):
        import_folders(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone is no folder"):
        import_folders(tmp_path / "gone")


def test_masks_of_gray_levels_are_rejected(tmp_path: Path, draw_leaf: Draw) -> None:
    draw_leaf(tmp_path / "oak" / "1.jpg", tmp_path / "masks" / "1.png", mask_value=200)
    with pytest.raises(DataError, match=r"masks/1\.png has the two pixel values 0 and 200"):
        import_folders(tmp_path)


def test_mask_classes_without_masks_are_rejected(tmp_path: Path, draw_leaf: Draw) -> None:
    draw_leaf(tmp_path / "oak" / "1.jpg")
    with pytest.raises(DataError, match="no image has a mask"):
        import_folders(tmp_path, mask_classes=["vein"])
