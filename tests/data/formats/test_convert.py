"""Out into the targets of other tools and back: the same pixels, splits, labels and everything else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_tools

from mnsa.data.decode import read_mask, read_pixels
from mnsa.data.formats.coco import import_coco
from mnsa.data.formats.convert import WRITERS, convert_dataset
from mnsa.data.formats.mask_folders import import_masks
from mnsa.data.formats.nnunet import import_nnunet
from mnsa.data.formats.yolo import import_yolo
from mnsa.data.manifest import Manifest, Row, read_manifest, write_manifest
from mnsa.errors import DataError

# pycocotools 2.0.11 with numpy 2.4: what its own decode does to arrays
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPLITS = ("train", "train", "val", "test", "")


def out_folder(target: str, root: Path) -> Path:
    return root / ("Dataset007_leaves" if target == "nnunet" else target)


def reimport(target: str, out: Path, root: Path) -> Manifest:
    imported = root / f"{target}-back"
    if target == "coco":
        import_coco(out / "annotations", imported, images=out / "images")
    elif target == "yolo":
        import_yolo(out, imported)
    elif target == "nnunet":
        import_nnunet(out, imported)
    else:
        write_manifest(import_masks(out / "images", out / "masks"), imported)
    return read_manifest(imported)


def make(root: Path, masks: list[np.ndarray], mask_classes: tuple[str, ...], scale: int = 1) -> Manifest:
    """Images of noise in folders of the same file names, with masks, labels, groups, scales and an extra column."""
    rng = np.random.default_rng(0)
    rows = []
    for number, mask in enumerate(masks):
        folder = root / "photos" / str(number)
        folder.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (*mask.shape, 3), np.uint8)).save(folder / "my leaf.png")
        Image.fromarray(mask * np.uint8(scale)).save(folder / "mask.png")
        label, scale_px = ("b", 12.5) if number % 2 else ("", None)
        names = (f"photos/{number}/my leaf.png", f"photos/{number}/mask.png")
        rows.append(Row(*names, label, SPLITS[number % 5], f"plant{number}", scale_px, {"note": f"n,{number}"}))
    return Manifest("leaves", root.resolve(), ("z", "b"), mask_classes, tuple(rows))


def content_of(manifest: Manifest) -> list[object]:
    """Collect the content of a data set, without the paths of its files."""
    rows = sorted(manifest.rows, key=lambda row: row.group)
    metadata = [replace(row, image="", mask="") for row in rows]
    pixels = [read_pixels(manifest.image_path(row)).tolist() for row in rows]
    count = len(manifest.mask_classes)
    masks = [read_mask(manifest.mask_path(row), count).tolist() if row.mask else None for row in rows]
    return [manifest.name, manifest.classes, manifest.mask_classes, metadata, pixels, masks]


def five_masks(top: int) -> list[np.ndarray]:
    rng = np.random.default_rng(top)
    return [rng.integers(0, top + 1, (7 + n, 9), np.uint8) for n in range(5)]


@pytest.mark.parametrize("target", WRITERS)
@pytest.mark.parametrize(
    ("classes", "scale"), [(("vein",), 255), (("soil", "leaf", "rust spot"), 1), (("soil", "leaf"), 1)]
)
def test_a_converted_data_set_is_imported_without_any_loss(
    target: str, classes: tuple[str, ...], scale: int, tmp_path: Path
) -> None:
    manifest = make(tmp_path, five_masks(max(len(classes) - 1, 1)), classes, scale)
    assert convert_dataset(manifest, target, out := out_folder(target, tmp_path)) == 5
    assert content_of(reimport(target, out, tmp_path)) == content_of(manifest)


@settings(max_examples=12, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)))
@pytest.mark.parametrize("target", WRITERS)
def test_any_mask_is_imported_without_any_loss(
    target: str, tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray
) -> None:
    root = tmp_path_factory.mktemp("any")
    manifest = make(root, [mask], ("soil", "leaf", "rust"))
    convert_dataset(manifest, target, out := out_folder(target, root))
    assert content_of(reimport(target, out, root)) == content_of(manifest)


@pytest.mark.parametrize("target", ["coco", "yolo", "masks"])
def test_an_image_without_a_mask_is_imported_without_a_mask(target: str, tmp_path: Path) -> None:
    manifest = make(tmp_path, five_masks(1), ("vein",))
    manifest = replace(manifest, rows=(replace(manifest.rows[0], mask=""), *manifest.rows[1:]))
    convert_dataset(manifest, target, out := out_folder(target, tmp_path))
    assert content_of(reimport(target, out, tmp_path)) == content_of(manifest)


def test_nnunet_rejects_training_images_without_a_mask_unless_they_are_left_out(tmp_path: Path) -> None:
    manifest = make(tmp_path, five_masks(1), ("vein",))
    manifest = replace(manifest, rows=(replace(manifest.rows[0], mask=""), *manifest.rows[1:]))
    with pytest.raises(DataError, match="--masked-only"):
        convert_dataset(manifest, "nnunet", tmp_path / "Dataset001_a")
    assert convert_dataset(manifest, "nnunet", tmp_path / "Dataset001_a", masked_only=True) == 4


def test_coco_files_are_read_by_pycocotools(tmp_path: Path) -> None:
    manifest = make(tmp_path, five_masks(2), ("soil", "leaf", "rust"))
    convert_dataset(manifest, "coco", tmp_path / "coco")
    tree = json.loads((tmp_path / "coco/annotations/test.json").read_text())
    mask = five_masks(2)[3]
    for category in tree["categories"]:
        runs = [a["segmentation"] for a in tree["annotations"] if a["category_id"] == category["id"]]
        assert (coco_tools.decode(coco_tools.merge(runs)) == (mask == category["id"])).all()
        assert coco_tools.area(runs).tolist() == [a["area"] for a in tree["annotations"] if a["segmentation"] in runs]
        assert coco_tools.toBbox(runs).tolist() == [a["bbox"] for a in tree["annotations"] if a["segmentation"] in runs]


def test_an_image_with_an_exif_orientation_is_written_upright(tmp_path: Path) -> None:
    manifest = make(tmp_path, [np.eye(6, 4, dtype=np.uint8)], ("vein",))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / manifest.rows[0].image
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path, exif=exif)  # lying, 6 wide; turned 4 wide, 6 high
    convert_dataset(manifest, "yolo", tmp_path / "yolo")
    with Image.open(next((tmp_path / "yolo/images/train").iterdir())) as image:
        assert (image.size, image.getexif().get(0x0112)) == ((4, 6), None)


def test_a_data_set_without_masks_is_rejected(leaves: Manifest, tmp_path: Path) -> None:
    bare = replace(leaves, mask_classes=(), rows=tuple(replace(row, mask="") for row in leaves.rows))
    with pytest.raises(DataError, match="no masks"):
        convert_dataset(bare, "coco", tmp_path / "out")


@pytest.mark.parametrize(
    ("classes", "name"), [(("soil", "ignore"), "Dataset001_a"), (("a",), "leaves"), (("a",), "Dataset1_a")]
)
def test_reserved_names_of_nnunet_are_rejected(
    leaves: Manifest, classes: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="nnU-Net"):
        convert_dataset(replace(leaves, mask_classes=classes), "nnunet", tmp_path / name)


def test_a_mask_of_another_size_is_rejected_and_leaves_nothing(
    leaves: Manifest, draw_leaf: Callable[..., None], tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(leaves.root / "1_mask.png")
    with pytest.raises(DataError, match=r"1_mask\.png has 3 x 3 pixels"):
        convert_dataset(leaves, "masks", tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
