"""COCO, YOLO, nnU-Net and mask folders: valid files are imported, invalid files are rejected."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.data.decode import read_mask
from mnsa.data.formats.coco import import_coco
from mnsa.data.formats.mask_folders import import_masks
from mnsa.data.formats.nnunet import import_nnunet
from mnsa.data.formats.yolo import import_yolo
from mnsa.data.manifest import Manifest
from mnsa.errors import DataError

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]


def write_image(path: Path, *, height: int = 8, width: int = 10, gray: bool = False, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width) if gray else (height, width, 3), value, np.uint8)).save(path)
    return path


def coco(root: Path, **changes: Any) -> Path:
    """A file of two images, with a leaf in polygons and a spot over it in plain run lengths. changes: other entries."""
    for name in ("a.png", "b.png"):
        write_image(root / "images" / name)
    tree = {
        "images": [{"id": 7, "file_name": "a.png", "height": 8, "width": 10}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 30, "name": "spot"}, {"id": 4, "name": "leaf"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 4, "segmentation": [SQUARE, [8, 0, 9, 0, 9, 1, 8, 1]]},
            {"id": 2, "image_id": 7, "category_id": 30, "segmentation": {"size": [8, 10], "counts": [18, 2, 60]}},
        ],
    }
    path = root / "instances_train2017.json"
    path.write_text(json.dumps({**tree, **changes}))
    return path


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 5, "image_id": 7, "category_id": 4, "segmentation": [SQUARE], **changes}]


def runs(counts: object, size: Iterable[object] = (8, 10)) -> list[dict[str, Any]]:
    return annotation(segmentation={"size": list(size), "counts": counts})


def masks_of(manifest: Manifest) -> list[np.ndarray]:
    return [read_mask(manifest.mask_path(row), len(manifest.mask_classes)).numpy() for row in manifest.rows]


def test_coco_polygons_and_run_lengths_are_drawn_in_order(tmp_path: Path) -> None:
    manifest = import_coco(coco(tmp_path), tmp_path / "set", images=tmp_path / "images")
    assert manifest.mask_classes == ("background", "leaf", "spot")
    assert sorted(row.split for row in manifest.rows) == ["train", "val"]
    first, second = masks_of(manifest)
    expected = np.zeros((8, 10), np.uint8)
    expected[2:6, 2:6] = 1
    expected[0, 8] = 1
    expected[2:4, 2] = 2
    assert (first == expected).all()
    assert not second.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "expected COCO's list of images"),
        ({"images": [{"id": 1, "file_name": "../a.png"}]}, "inside the root"),
        ({"images": [{"id": 1, "file_name": "/etc/a.png"}]}, "inside the root"),
        ({"images": [{"id": 1, "file_name": "..\\a.png"}]}, "inside the root"),
        ({"images": [{"id": 1, "file_name": "a\0.png"}]}, "on one line"),
        ({"images": [{"id": 1, "file_name": "\ud800.png"}]}, "can't be read as JSON"),
        ({"images": [{"id": 1, "file_name": "a.svg"}]}, "no image that can be read"),
        ({"images": [{"id": 1, "file_name": "c.png"}], "annotations": []}, "does not exist"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "used before"),
        ({"images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "./a.png"}]}, "listed before"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 10**9, "width": 10**9}]}, "has 10 x 8 pixels"),
        ({"images": [{"id": True, "file_name": "a.png"}]}, "expected a whole number"),
        ({"categories": []}, "no category of the id 4"),
        ({"categories": [{"id": 4, "name": "x"}, {"id": 30, "name": "x"}]}, "different names"),
        ({"annotations": annotation(image_id=1)}, "no image of the id 1"),
        ({"annotations": annotation(segmentation=[])}, "id 5.*boxes are no masks"),
        ({"annotations": annotation(segmentation=[[1, 2, 3]])}, "no list of x, y"),
        ({"annotations": annotation(segmentation=[["1", 2, 3, 4, 5, 6]])}, "no list of x, y"),
        ({"annotations": annotation(segmentation=[[1, 1, 10**400, 4, 5, 6]])}, "can't be read as JSON|too large"),
        ({"annotations": annotation(segmentation=[[1, 1, float("nan"), 4, 5, 6]])}, "NaN is not a number"),
        ({"annotations": annotation(segmentation=[[1, 1, -9, 4, 5, 6]])}, "outside the image"),
        ({"annotations": runs([18, 2, 61])}, "81 pixels in all; the image has 80"),
        ({"annotations": runs([10**12])}, "no pixel counts"),
        ({"annotations": runs("P" * 9)}, "compressed runs?"),
        ({"annotations": runs([80], (10**6, 10**6))}, "run lengths of the size"),
        ({"annotations": runs(None)}, "expected a list or COCO's text"),
    ],
)  # fmt: skip
def test_invalid_coco_files_are_rejected_and_leave_nothing(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        import_coco(coco(tmp_path, **changes), tmp_path / "set", images=tmp_path / "images")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "instances_train2017.json"]


def test_an_image_that_is_a_link_out_of_its_folder_is_rejected(tmp_path: Path) -> None:
    source = coco(tmp_path)
    write_image(tmp_path / "secret.png")
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="outside the data set's root"):
        import_coco(source, tmp_path / "set", images=tmp_path / "images")


def test_deeply_nested_json_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="can't be read as JSON"):
        import_coco(path, tmp_path / "set", images=tmp_path)


def yolo(root: Path, lines: str = "1 .2 .25 .6 .25 .6 .75 .2 .75\n", description: str | None = None) -> Path:
    """A set of one training image, 10 x 8, and one for validation without labels."""
    write_image(root / "images/train/a.png")
    write_image(root / "images/val/b.png")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(lines)
    text = "path: ../datasets/x\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: leaf\n  1: spot\n"
    (root / "data.yaml").write_text(text if description is None else description)
    return root


def test_yolo_polygons_become_a_mask_and_a_missing_label_file_gives_no_mask(tmp_path: Path) -> None:
    manifest = import_yolo(yolo(tmp_path / "in"), tmp_path / "set")
    train, val = manifest.rows
    assert (train.image, train.mask, train.split) == ("images/train/a.png", "masks/train/a.png", "train")
    assert (val.image, val.mask, val.split) == ("images/val/b.png", "", "val")
    expected = np.zeros((8, 10), np.uint8)
    expected[2:6, 2:6] = 2
    assert (read_mask(manifest.mask_path(train), 3).numpy() == expected).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0 .5 .5 .2 .2\n", r"a\.txt, line 1 is a box"),
        ("\n2 0 0 1 0 1 1\n", r"line 2 begins with '2'; expected a class from 0 to 1"),
        ("-1 0 0 1 0 1 1\n", "begins with"),
        ("0 0 0 1 0 1\n", "pairs"),
        ("0 0 0 nan 0 1 1\n", "NaN or infinite"),
        ("0 0 0 inf 0 1 1\n", "NaN or infinite"),
        ("0 0 0 1e308 0 1 1\n", "outside|NaN or infinite"),
        ("0 0 0 -1 0 1 1\n", "outside"),
        ("0 a b c d e f\n", "no number"),
    ],
)
def test_invalid_yolo_lines_are_rejected(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_yolo(yolo(tmp_path / "in", lines), tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("train: images/train\nnames: !!python/object/apply:os.system [touch owned]\n", "can't be read as YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: *b\n", "uses the YAML alias"),
        ("names: " + "[" * 5000, "can't be read as YAML|nested deeper"),
        ("train: ../images/train\nnames: [leaf]\n", "inside the root"),
        ("train: /images/train\nnames: [leaf]\n", "inside the root"),
        ("train: [images/train, images/val]\nnames: [leaf]\n", "one image folder"),
        ("train: train.txt\nnames: [leaf]\n", "one image folder"),
        ("train: images/train\nnames: {1: leaf}\n", "expected 0, 1, 2"),
        ("train: images/train\nnames: [leaf, leaf]\n", "must differ"),
        ("train: images/train\n", "expected a list of names"),
        ("- 1\n", "expected a mapping"),
        ("x: " + "1" * 2_000_000, "at most"),
        ('names: ["\\ud800"]\n', "can't be read as YAML"),
        ("x: 2001-99-99\n", "can't be read as YAML"),
    ],
)
def test_invalid_yolo_descriptions_are_rejected(description: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_yolo(yolo(tmp_path / "in", description=description), tmp_path / "set")
    assert not list(tmp_path.glob("**/owned"))


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
