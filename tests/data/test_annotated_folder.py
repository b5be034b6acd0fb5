"""Masks drawn by hand: written beside the photos, listed in the manifest, and ready to train on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from mnsa.data.annotated_folder import AnnotatedFolder
from mnsa.data.manifest import read_manifest, write_manifest_files
from mnsa.errors import ConfigError, DataError
from mnsa.serving.responses import encode_mask

MASK = np.eye(32, dtype=np.uint8)
PNG = encode_mask(MASK)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of seven photos, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "more/a.png"):
        Image.new("RGB", (32, 32), (0, 90, 0)).save(folder / name)
    return folder


def test_a_folder_of_photos_becomes_a_data_set_with_its_first_mask(photos: Path) -> None:
    folder = AnnotatedFolder(photos, ["vein"])
    assert len(folder.images) == 7
    assert not (photos / "manifest.csv").exists()
    assert folder.read_mask("more/a.png") is None
    assert folder.write_mask("more/a.png", PNG) == "annotations/more/a.png.png"
    manifest = read_manifest(photos)
    assert manifest.mask_classes == ("vein",)
    assert {row.image: row.mask for row in manifest.rows if row.mask} == {"more/a.png": "annotations/more/a.png.png"}
    saved = AnnotatedFolder(photos, ["other"]).read_mask("more/a.png")
    assert saved is not None
    assert_array_equal(saved, MASK)


def test_the_second_mask_of_each_five_is_for_validation(photos: Path) -> None:
    folder = AnnotatedFolder(photos, ["vein"])
    for image in folder.images:
        folder.write_mask(image, PNG)
    assert [row.split for row in read_manifest(photos).rows] == ["train", "val", *["train"] * 4, "val"]


def test_images_of_a_group_stay_in_one_split(photos: Path) -> None:
    AnnotatedFolder(photos, ["vein"]).write_mask("a.png", PNG)
    manifest = read_manifest(photos)
    grouped = replace(manifest, rows=tuple(replace(row, group="plant") for row in manifest.rows))
    write_manifest_files(grouped, photos)
    AnnotatedFolder(photos, ["vein"]).write_mask("b.png", PNG)
    assert {row.split for row in read_manifest(photos).rows if row.mask} == {"train"}


def test_a_data_set_keeps_its_splits_labels_and_other_masks(own_dataset: Path) -> None:
    before = read_manifest(own_dataset)
    row = before.rows[0]
    original = (own_dataset / row.mask).read_bytes()
    folder = AnnotatedFolder(own_dataset, ["anything"])
    assert folder.mask_classes == before.mask_classes
    mask = folder.write_mask(row.image, encode_mask(np.zeros((64, 64), np.uint8)))
    after = read_manifest(own_dataset)
    assert after.rows == (replace(row, mask=mask), *before.rows[1:])
    assert (own_dataset / row.mask).read_bytes() == original


def test_what_others_wrote_into_the_manifest_meanwhile_stays(own_dataset: Path) -> None:
    folder = AnnotatedFolder(own_dataset, ["vein"])
    manifest = read_manifest(own_dataset)
    first, second, *others = manifest.rows
    write_manifest_files(replace(manifest, rows=(first, replace(second, px_per_mm=5.0), *others)), own_dataset)
    folder.write_mask(first.image, PNG)
    assert read_manifest(own_dataset).rows[1].px_per_mm == 5.0
    write_manifest_files(replace(manifest, rows=(second, *others)), own_dataset)
    with pytest.raises(DataError, match="no longer"):
        folder.write_mask(first.image, PNG)


def test_nothing_is_written_outside_the_folder(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (photos / "annotations").symlink_to(outside)
    with pytest.raises(DataError, match="outside the data set's root"):
        AnnotatedFolder(photos, ["vein"]).write_mask("more/a.png", PNG)
    assert list(outside.iterdir()) == []
    assert not (photos / "manifest.csv").exists()


def test_a_data_set_whose_images_are_elsewhere_names_their_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "dataset.toml").write_text(f'root = "{photos}"\nmask_classes = ["vein"]\n')
    (tmp_path / "set" / "manifest.csv").write_text("image\na.png\n")
    with pytest.raises(DataError, match=f"--data '{photos}'"):
        AnnotatedFolder(tmp_path / "set", ["vein"])


def test_a_folder_without_images_or_classes_is_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        AnnotatedFolder(tmp_path / "empty", ["vein"])
    with pytest.raises(DataError, match="no folder"):
        AnnotatedFolder(tmp_path / "nowhere", ["vein"])
    with pytest.raises(ConfigError, match="mask classes"):
        AnnotatedFolder(photos, [])


def test_masks_of_a_folder_that_lost_its_manifest_are_no_photos(photos: Path) -> None:
    AnnotatedFolder(photos, ["vein"]).write_mask("a.png", PNG)
    for name in ("manifest.csv", "dataset.toml"):
        (photos / name).unlink()
    assert len(AnnotatedFolder(photos, ["vein"]).images) == 7
