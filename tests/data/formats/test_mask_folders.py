"""Mask folders: masks are found by stem or suffix, and each belongs to one image."""

from collections.abc import Callable
from pathlib import Path

import pytest

from miniature_datasets import write_image
from mnsa.data.formats.mask_folders import import_masks
from mnsa.errors import DataError


def test_masks_are_found_by_stem_or_suffix(tmp_path: Path, draw_leaf: Callable[..., None]) -> None:
    for image, mask in (
        ("train/a.jpg", "train/a.png"),
        ("val/b.png", "val/b_mask.png"),
        ("test/c_mask.png", "test/c_mask.png"),
    ):
        draw_leaf(tmp_path / "photos" / image, tmp_path / "veins" / mask)
    manifest = import_masks(tmp_path / "photos", tmp_path / "veins", mask_classes=["vein"])
    assert {row.image: (row.mask, row.split) for row in manifest.rows} == {
        "photos/train/a.jpg": ("veins/train/a.png", "train"),
        "photos/val/b.png": ("veins/val/b_mask.png", "val"),
        "photos/test/c_mask.png": ("veins/test/c_mask.png", "test"),
    }


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["a.png"], ["b.png"], r"b\.png is the mask of no image"),
        (["a.png"], [], "No mask in"),
        (["a.png"], ["a.png", "a_mask.png"], "belong to the same image"),
        (["a.png", "a.jpg"], ["a.png"], "same stem"),
        (["rust/a.png"], ["rust/a.png"], "mnsa import folders"),
        (["train/a.png", "b.png"], ["b.png"], "lies in none"),
    ],
)
def test_masks_that_do_not_match_one_image_are_rejected(
    images: list[str], masks: list[str], message: str, tmp_path: Path
) -> None:
    for folder, names in (("photos", images), ("veins", masks)):
        (tmp_path / folder).mkdir()
        for name in names:
            write_image(tmp_path / folder / name, gray=folder == "veins", value=1)
    with pytest.raises(DataError, match=message):
        import_masks(tmp_path / "photos", tmp_path / "veins")
