"""nnU-Net: images are not copied unless channels are merged, invalid descriptions are rejected."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miniature_datasets import masks_of, write_image
from mnsa.data.formats.nnunet import import_nnunet
from mnsa.errors import DataError


def nnunet(root: Path, channels: int = 1, **changes: Any) -> Path:
    for part, case in (("Tr", "a"), ("Tr", "b"), ("Ts", "c")):
        for channel in range(channels):
            write_image(root / f"images{part}" / f"{case}_000{channel}.png", gray=channels > 1, value=50 * channel)
        write_image(root / f"labels{part}" / f"{case}.png", gray=True, value=1)
    about = {
        "channel_names": {"0": "R"},
        "labels": {"background": 0, "leaf": 1},
        "numTraining": 2,
        "file_ending": ".png",
    }
    (root / "dataset.json").write_text(json.dumps({**about, **changes}))
    (root / "splits_final.json").write_text(json.dumps([{"train": ["b"], "val": ["a"]}]))
    return root


def test_nnunet_images_are_not_copied(tmp_path: Path) -> None:
    manifest = import_nnunet(nnunet(tmp_path / "Dataset001_a"), tmp_path / "set")
    assert manifest.root == tmp_path / "Dataset001_a"
    assert [(row.image, row.split) for row in manifest.rows] == [
        ("imagesTr/a_0000.png", "val"), ("imagesTr/b_0000.png", "train"), ("imagesTs/c_0000.png", "test"),
    ]  # fmt: skip
    assert manifest.mask_classes == ("leaf",)
    assert all(mask.all() for mask in masks_of(manifest))


def test_nnunet_channels_are_merged(tmp_path: Path) -> None:
    manifest = import_nnunet(nnunet(tmp_path / "Dataset001_a", channels=3), tmp_path / "set")
    with Image.open(manifest.image_path(manifest.rows[0])) as image:
        assert image.getpixel((0, 0)) == (0, 50, 100)
    assert manifest.root == tmp_path / "set"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_ending": ".nii.gz"}, "flat images are read"),
        ({"labels": {"background": 0, "leaf": [1, 2]}}, "regions are not read"),
        ({"labels": {"background": 0, "leaf": 2}}, "expected background 0"),
        ({"labels": {"background": 0, "leaf": 2, "ignore": 1}}, "pixels of the label 'ignore'"),
        ({"labels": None}, "expected a mapping"),
        ({"mnsa": {"name": 3}}, "name must be text"),
        ({"mnsa": {"name": "x", "classes": ["a"], "mask_classes": ["vein"]}}, "make both agree"),
    ],
)
def test_invalid_nnunet_descriptions_are_rejected(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_nnunet(nnunet(tmp_path / "Dataset001_a", **changes), tmp_path / "set")
    assert not (tmp_path / "set").exists()
