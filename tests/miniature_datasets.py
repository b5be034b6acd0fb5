"""Miniatures of the published data sets, laid out like the real ones. Any test may import this module.

A class is a hue, its veins are bright lines, and the masks are those lines: something that can be learnt.
"""

import colorsys
import pickle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mnsa.data.decode import read_mask
from mnsa.data.manifest import Manifest

STAGES = ("R1", "R3", "R4", "R5", "R6")


def make_mganet(
    root: Path,
    *,
    classes: int = 3,
    per_class: int = 6,
    size_px: int = 64,
    name: str = "soybean_2_1",
    mask_value: int = 1,
) -> Path:
    """Make `<root>/<name>` with tif images; two in three of a class are for training, all of the last class are.

    The ids have gaps, labels.pkl is keyed by them, labels begin with 1. mask_value: a vein's pixels, 1 or 255.
    With the name btf, names take the place of ids: png images, masks of the same name, labels.pkl keyed by name.
    """
    folder, labels = root / name, {}
    for part in ("train", "test", "l2_mask"):
        (folder / part).mkdir(parents=True)
    for number, (index, individual) in enumerate(np.ndindex(classes, per_class)):
        image_id = 2 + 3 * number
        file = f"butterfly_{image_id:04}.png" if name == "btf" else f"{image_id}.tif"
        split = "train" if index == classes - 1 or individual < 2 * per_class / 3 else "test"
        photo, veins = _draw(index / classes, size_px, seed=number)
        photo.save(folder / split / file)
        veins.point(lambda value: value * mask_value).save(folder / "l2_mask" / Path(file).with_suffix(".png"))
        labels[file if name == "btf" else image_id] = index + 1
    (folder / "labels.pkl").write_bytes(pickle.dumps(labels))
    return folder


def make_ufg(
    root: Path, *, classes: int = 3, per_class: int = 4, size_px: int = 64, name: str = "COTTON", seed: int = 0
) -> Path:
    """Make `<root>/<name>` with images/ and anno/; every second image of a class is for testing, none of the last.

    The files' names hold a space; there is no val.txt.
    """
    folder, lists = root / name, {"train": "", "test": ""}
    (folder / "images").mkdir(parents=True)
    (folder / "anno").mkdir()
    for number, (index, individual) in enumerate(np.ndindex(classes, per_class)):
        file = f"cultivar {index + 1:03}_{individual + 1}.jpg"
        _draw(index / classes, size_px, seed=seed + number)[0].save(folder / "images" / file, quality=95)
        lists["test" if individual % 2 and index < classes - 1 else "train"] += f"{file} {index + 1}\n"
    for split, lines in lists.items():
        (folder / "anno" / f"{split}.txt").write_text(lines, encoding="utf-8")
    return folder


def make_soyageing(root: Path, *, classes: int = 3, per_class: int = 4, size_px: int = 64) -> Path:
    """Make `<root>/soybean_ageing` of five stages, each laid out like `make_ufg`, with the same cultivars in each."""
    for number, stage in enumerate(STAGES):
        make_ufg(
            root / "soybean_ageing", classes=classes, per_class=per_class, size_px=size_px, name=stage, seed=99 * number
        )
    return root / "soybean_ageing"


def _draw(hue: float, size_px: int, seed: int) -> tuple[Image.Image, Image.Image]:
    """A leaf, RGB, and its veins, 8-bit grey, 0 or 1: a midrib and four pairs of side veins, two pixels thin."""
    rng = np.random.default_rng(seed)
    unit = size_px / 64
    dull, bright = (tuple(int(255 * x) for x in colorsys.hsv_to_rgb(hue, 0.8, value)) for value in (0.5, 1.0))
    photo, veins = Image.new("RGB", (size_px, size_px), "white"), Image.new("L", (size_px, size_px))
    left, top = rng.uniform(2, 12, 2) * unit
    right, bottom = size_px - rng.uniform(2, 12, 2) * unit
    middle, step = (left + right) / 2, (bottom - top) / 6
    ImageDraw.Draw(photo).ellipse((left, top, right, bottom), fill=dull)
    lines = [(middle, top, middle, bottom)]
    for y in top + step * np.arange(2, 6):
        lines += [(middle, y, middle + side * (right - left) / 3, y - step) for side in (-1, 1)]
    for line in lines:
        ImageDraw.Draw(photo).line(line, fill=bright, width=2)
        ImageDraw.Draw(veins).line(line, fill=1, width=2)
    noisy = np.asarray(photo) + rng.normal(0, 6, (size_px, size_px, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), veins


def write_image(path: Path, *, height: int = 8, width: int = 10, gray: bool = False, value: int = 90) -> Path:
    """Write an image of one color, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width) if gray else (height, width, 3), value, np.uint8)).save(path)
    return path


def masks_of(manifest: Manifest) -> list[np.ndarray]:
    """Read the masks of all rows, (H, W) each."""
    return [read_mask(manifest.mask_path(row), len(manifest.mask_classes)).numpy() for row in manifest.rows]
