"""Small valid inputs of every verb that reads a folder, and what each verb makes of them.

A test changes the folder of an input (a rubbish file, another name, another case) and looks at the outcome.
"""

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from miniature_datasets import make_mganet, make_ufg
from mnsa.data.manifest import read_manifest

SIDE_PX = 16


def write_photo(path: Path, seed: int = 0) -> Path:
    """Write noise, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def write_vein(path: Path) -> Path:
    """Write a mask of one vertical line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[2:14, 8] = 255
    Image.fromarray(mask).save(path)
    return path


class Ending(Protocol):
    """A command that has ended."""

    @property
    def code(self) -> int: ...
    @property
    def out(self) -> str: ...
    @property
    def err(self) -> str: ...


Command = Callable[..., Ending]
"""The fixture `mnsa`."""


class Verb(NamedTuple):
    """A verb and its input.

    make: fills a folder. photos: the folder with the images, relative to it. arguments: of the command, from the folder
    and the output. expected: number of images or rows in the output of the unchanged input.
    """

    make: Callable[[Path], object]
    photos: str
    arguments: Callable[[Path, Path], list[object]]
    expected: int


def make_class_folders(folder: Path) -> None:
    for number in range(4):
        write_photo(folder / "ab"[number % 2] / f"{number}.png", number)


def make_mask_folders(folder: Path) -> None:
    for number in range(4):
        write_photo(folder / "images" / f"{number}.png", number)
        write_vein(folder / "masks" / f"{number}.png")


def make_table(folder: Path) -> None:
    make_class_folders(folder)
    (folder / "table.csv").write_text("image,label\na/0.png,a\nb/1.png,b\na/2.png,a\nb/3.png,b\n")


def make_coco(folder: Path) -> None:
    for number in range(4):
        write_photo(folder / "images" / f"{number}.png", number)
    tree = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(4)],
        "categories": [{"id": 1, "name": "vein"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]}
            for number in range(4)
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations/train.json").write_text(json.dumps(tree))


def make_cvat(folder: Path) -> None:
    images = ""
    for number in range(4):
        write_photo(folder / "images" / f"{number}.png", number)
        shape = '<polygon label="vein" points="2,2;9,2;9,9"/>'
        images += f'<image id="{number}" name="{number}.png" width="{SIDE_PX}" height="{SIDE_PX}">{shape}</image>'
    (folder / "annotations.xml").write_text(f"<annotations>{images}</annotations>")


def make_labelme(folder: Path) -> None:
    for number in range(4):
        write_photo(folder / f"{number}.png", number)
        shape = {"label": "vein", "points": [[2, 2], [9, 2], [9, 9]], "shape_type": "polygon"}
        tree = {"shapes": [shape], "imagePath": f"{number}.png", "imageHeight": SIDE_PX, "imageWidth": SIDE_PX}
        (folder / f"{number}.json").write_text(json.dumps(tree))


def make_via(folder: Path) -> None:
    shape = {"name": "polygon", "all_points_x": [2, 9, 9], "all_points_y": [2, 2, 9]}
    region = {"shape_attributes": shape, "region_attributes": {"part": "vein"}}
    for number in range(4):
        write_photo(folder / "images" / f"{number}.png", number)
    entries = {f"{number}.png-1": {"filename": f"{number}.png", "regions": [region]} for number in range(4)}
    (folder / "via.json").write_text(json.dumps(entries))


def make_yolo(folder: Path) -> None:
    for number in range(4):
        write_photo(folder / "train/images" / f"{number}.png", number)
        label = folder / "train/labels" / f"{number}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 .2 .2 .8 .2 .8 .8\n")
    (folder / "data.yaml").write_text("train: train/images\nnames: [vein]\n")


def make_nnunet(folder: Path) -> None:
    for number in range(4):
        write_photo(folder / "imagesTr" / f"leaf{number}_0000.png", number)
        mask = folder / "labelsTr" / f"leaf{number}.png"
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray(np.eye(SIDE_PX, dtype=np.uint8)).save(mask)
    about = {"channel_names": {"0": "R"}, "labels": {"background": 0, "vein": 1}, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(about))


def make_zip(folder: Path) -> None:
    make_class_folders(folder)


def zip_folder(folder: Path) -> Path:
    """Zip what a folder holds now, as desktop programs do, under one top folder."""
    archive = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                opened.write(path, f"photos/{path.relative_to(folder).as_posix()}")
    return archive


def make_photos(folder: Path) -> None:
    for number in range(2):
        write_photo(folder / f"{number}.png", number)


def make_masks(folder: Path) -> None:
    for number in range(4):
        write_vein(folder / f"{number}.png")


IMPORTS = {
    "folders": Verb(make_class_folders, "a", lambda folder, out: ["import", "folders", folder, "--out", out], 4),
    "masks": Verb(
        make_mask_folders,
        "images",
        lambda folder, out: ["import", "masks", folder / "images", folder / "masks", "--out", out],
        4,
    ),
    "csv": Verb(
        make_table,
        "a",
        lambda folder, out: ["import", "csv", folder / "table.csv", "--label", "label", "--out", out],
        4,
    ),
    "coco": Verb(
        make_coco,
        "annotations",
        lambda folder, out: ["import", "coco", folder / "annotations", "--images", folder / "images", "--out", out],
        4,
    ),
    "cvat": Verb(
        make_cvat,
        "images",
        lambda folder, out: ["import", "cvat", folder / "annotations.xml", "--images", folder / "images", "--out", out],
        4,
    ),
    "labelme": Verb(make_labelme, ".", lambda folder, out: ["import", "labelme", folder, "--out", out], 4),
    "via": Verb(
        make_via,
        "images",
        lambda folder, out: ["import", "via", folder / "via.json", "--images", folder / "images", "--out", out],
        4,
    ),
    "yolo": Verb(make_yolo, "train/images", lambda folder, out: ["import", "yolo", folder, "--out", out], 4),
    "nnunet": Verb(make_nnunet, "imagesTr", lambda folder, out: ["import", "nnunet", folder, "--out", out], 4),
    "zip": Verb(make_zip, "a", lambda folder, out: ["import", "zip", zip_folder(folder), "--out", out], 4),
    "mganet": Verb(
        lambda folder: make_mganet(folder, size_px=SIDE_PX, classes=2, per_class=3),
        "soybean_2_1/train",
        lambda folder, out: ["import", "mganet", folder / "soybean_2_1", "--out", out],
        6,
    ),
    "ufg": Verb(
        lambda folder: make_ufg(folder, size_px=SIDE_PX, classes=2, per_class=3),
        "COTTON/images",
        lambda folder, out: ["import", "ufg", folder / "COTTON", "--out", out],
        6,
    ),
}

TRAITS = {"traits": Verb(make_masks, ".", lambda folder, out: ["traits", folder, "--out", out], 4)}


def rows_of(out: Path) -> list[dict[str, str]]:
    """The rows of a table, of predictions, or of a data set."""
    table = out if out.is_file() else next(out.glob("predictions.csv"), out / "manifest.csv")
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def count_of(out: Path) -> int:
    """The number of images in an output; a data set is read as mnsa reads it."""
    return len(read_manifest(out).rows) if (out / "manifest.csv").is_file() else len(rows_of(out))
