"""Files as annotation tools export them: Roboflow's and Label Studio's COCO, outlines that cover veins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field_inputs import Command, count_of, write_photo
from PIL import Image

from mnsa.data.decode import read_mask_indices
from mnsa.data.manifest import read_manifest

WIDTH, HEIGHT = 24, 16
VEIN = [2, 7, 22, 7, 22, 9, 2, 9]
LEAF = [0, 0, 24, 0, 24, 16, 0, 16]


def write_coco(folder: Path, **changes: Any) -> list[object]:
    """A COCO file of three images with a vein each. changes: other entries. Returns: the arguments of the import."""
    for number in range(3):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
    tree = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(3)],
        "categories": [{"id": 0, "name": "vein"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 0, "segmentation": [VEIN]} for n in range(3)],
    }
    (folder / "result.json").write_text(json.dumps({**tree, **changes}))
    return ["import", "coco", folder / "result.json", "--images", folder / "images"]


def vein_pixels(out: Path) -> list[int]:
    manifest = read_manifest(out)
    return [int((read_mask_indices(manifest.mask_path(row), 1) == 1).sum()) for row in manifest.rows]


def test_the_root_category_of_roboflow_is_no_class(mnsa: Command, tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "leaf-veins-x1", "supercategory": "none"},
        {"id": 1, "name": "vein", "supercategory": "leaf-veins-x1"},
    ]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [VEIN]} for n in range(3)]
    arguments = write_coco(tmp_path / "in", categories=categories, annotations=annotations)
    assert mnsa(*arguments, "--out", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out").mask_classes == ("vein",)
    assert vein_pixels(tmp_path / "out") == [40, 40, 40]


def test_a_category_that_is_its_own_supercategory_stays(mnsa: Command, tmp_path: Path) -> None:
    """As `person` of COCO, which an excerpt may have no annotation of."""
    categories = [{"id": 0, "name": "vein"}, {"id": 1, "name": "leaf", "supercategory": "leaf"}]
    assert mnsa(*write_coco(tmp_path / "in", categories=categories), "--out", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out").mask_classes == ("background", "vein", "leaf")
    found = mnsa("check", tmp_path / "out").out
    assert "mask-class-absent" in found
    assert "'leaf'" in found


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (HEIGHT, WIDTH)])
@pytest.mark.parametrize("prefix", ["", "images\\", "images/"])
def test_names_and_sizes_of_label_studio_are_read(
    mnsa: Command, tmp_path: Path, prefix: str, size: tuple[int, int]
) -> None:
    images = [{"id": n, "file_name": f"{prefix}{n}.png", "width": size[0], "height": size[1]} for n in range(3)]
    ending = mnsa(*write_coco(tmp_path / "in", images=images), "--out", tmp_path / "out")
    assert ending.code == 0, ending
    assert vein_pixels(tmp_path / "out") == [40, 40, 40]
    assert ("width and height of 3 images are exchanged" in ending.out) == (size == (HEIGHT, WIDTH))


def test_exchanged_sizes_of_a_turned_photo_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    """Its annotations belong to the photo as stored, or as shown: the file doesn't tell."""
    images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(3)]
    arguments = write_coco(tmp_path / "in", images=images)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "in/images/1.png") as image:
        image.save(tmp_path / "in/images/1.png", exif=exif)
    assert "has 16 x 24 pixels, upright" in refused(*arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("leaf_last", [True, False])
def test_a_class_that_another_covers_is_said(mnsa: Command, tmp_path: Path, leaf_last: bool) -> None:
    categories = [{"id": 1, "name": "vein"}, {"id": 2, "name": "leaf"}]
    shapes = [(2, LEAF), (1, VEIN)][:: -1 if leaf_last else 1]
    annotations = [
        {"id": 10 * n + category, "image_id": n, "category_id": category, "segmentation": [shape]}
        for n in range(3)
        for category, shape in shapes
    ]
    arguments = write_coco(tmp_path / "in", categories=categories, annotations=annotations)
    ending = mnsa(*arguments, "--out", tmp_path / "out")
    assert ending.code == 0
    assert count_of(tmp_path / "out") == 3
    assert ("100 % of the pixels of class 'vein' are covered by 'leaf'" in ending.out) == leaf_last
    assert ("mask-class-absent" in mnsa("check", tmp_path / "out").out) == leaf_last


@pytest.mark.parametrize("leaf_last", [0, 1, 2, 3])
def test_check_says_that_most_masks_lack_the_veins(mnsa: Command, tmp_path: Path, leaf_last: int) -> None:
    """leaf_last: number of images of three whose leaf is drawn over the vein; three: the vein has no pixel at all."""
    categories = [{"id": 1, "name": "vein"}, {"id": 2, "name": "leaf"}]
    annotations = [
        {"id": 10 * n + category, "image_id": n, "category_id": category, "segmentation": [shape]}
        for n in range(3)
        for category, shape in [(2, LEAF), (1, VEIN)][:: -1 if n < leaf_last else 1]
    ]
    arguments = write_coco(tmp_path / "in", categories=categories, annotations=annotations)
    assert mnsa(*arguments, "--out", tmp_path / "out").code == 0
    mnsa("check", tmp_path / "out", "--out", tmp_path / "found.json")
    findings = json.loads((tmp_path / "found.json").read_text())["findings"]
    reasons = [
        one["reason"] for one in findings if one["kind"] == "mask-class-absent" and one["file"] == "dataset.toml"
    ]
    expected = {2: "which 2 of 3 masks lack; they have 'leaf'", 3: "of no mask's pixels"}
    assert reasons == ([f"has mask class 'vein', {expected[leaf_last]}"] if leaf_last > 1 else [])


def test_the_folders_of_roboflow_are_its_splits(mnsa: Command, tmp_path: Path) -> None:
    """train/_annotations.coco.json beside the images of train; valid and test alike."""
    for split in ("train", "valid", "test"):
        write_coco(tmp_path / "new")
        (tmp_path / "new/result.json").rename(tmp_path / "new/images/_annotations.coco.json")
        (tmp_path / "new/images").rename(tmp_path / split)
    ending = mnsa("import", "coco", tmp_path, "--images", tmp_path, "--out", tmp_path / "new/out")
    assert ending.code == 0, ending
    manifest = read_manifest(tmp_path / "new/out")
    assert [len(manifest.split(split).rows) for split in ("train", "val", "test")] == [3, 3, 3]
    assert vein_pixels(tmp_path / "new/out") == [40] * 9
    assert ".json" not in ending.out


@pytest.mark.parametrize("prefix", ["../../label-studio/data/media/upload/1/", "/data/upload/1/", "https://host/a/"])
def test_folders_of_another_machine_are_left_out(mnsa: Command, tmp_path: Path, prefix: str) -> None:
    images = [{"id": n, "file_name": f"{prefix}{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(3)]
    assert mnsa(*write_coco(tmp_path / "in", images=images), "--out", tmp_path / "out").code == 0
    assert vein_pixels(tmp_path / "out") == [40, 40, 40]


POLYGON = "0 .2 .2 .8 .2 .8 .8\n"


def write_yolo(folder: Path, description: str) -> list[object]:
    for number in range(4):
        write_photo(folder / f"train/images/{number}.png", number)
        (folder / "train/labels").mkdir(exist_ok=True)
        (folder / f"train/labels/{number}.txt").write_text(POLYGON)
    (folder / "train.txt").write_text("".join(f"data/train/images/{number}.png\n" for number in range(4)))
    (folder / "data.yaml").write_text(description)
    return ["import", "yolo", folder]


@pytest.mark.parametrize(
    "description",
    [
        "path: /content/set\ntrain: /content/set/train/images\nval: /content/set/val/images\nnames: [vein]\n",
        "train: train.txt\nnames: [vein]\n",
        "train: [train/images]\nnames: {0: vein}\n",
        "train: train/images\nval: train/images\nnames: ['vein ']\n",
        "train: train\\images\nnames: [vein]\nnc: 1\n",
    ],
    ids=["absolute", "list of images", "list of folders", "val is train", "back slashes"],
)
def test_descriptions_of_yolo_tools_are_read(mnsa: Command, tmp_path: Path, description: str) -> None:
    ending = mnsa(*write_yolo(tmp_path / "in", description), "--out", tmp_path / "out")
    assert ending.code == 0, ending
    manifest = read_manifest(tmp_path / "out")
    assert manifest.mask_classes == ("vein",)
    assert len(manifest.rows) == 4
    assert all(row.mask for row in manifest.rows)


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt"])
def test_a_list_of_classes_stands_for_a_description(mnsa: Command, tmp_path: Path, place: str) -> None:
    """As Label Studio and LabelImg export: images, labels and classes.txt."""
    write_yolo(tmp_path / "in", "")
    (tmp_path / "in/data.yaml").unlink()
    for name in ("images", "labels"):
        (tmp_path / "in/train" / name).rename(tmp_path / "in" / name)
    (tmp_path / "in" / place).write_text("vein\nleaf\n")
    assert mnsa("import", "yolo", tmp_path / "in", "--out", tmp_path / "out").code == 0
    assert read_manifest(tmp_path / "out").mask_classes == ("background", "vein", "leaf")
    assert all(row.mask for row in read_manifest(tmp_path / "out").rows)
