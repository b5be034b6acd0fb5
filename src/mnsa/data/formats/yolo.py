"""YOLO segmentation: images/ and labels/ beside a data.yaml, a polygon a line, in shares of width and height."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnsa.data.decoding import SUFFIXES, resolve_inside
from mnsa.data.importers.common import SPLIT_NAMES
from mnsa.data.importers.painted import Canvas
from mnsa.data.layouts.careful import brief, names, read_json, read_text, read_yaml
from mnsa.data.layouts.classes import mask_classes_of
from mnsa.data.layouts.facts import FILE, parse_facts
from mnsa.data.layouts.pictures import checked_name, upright_size
from mnsa.data.layouts.polygon import BrokenPolygonError, paint_polygons
from mnsa.data.manifest import Manifest, Row, checked_path, fresh_folder
from mnsa.errors import DataError


def import_yolo(source: Path, out: Path, *, validation_share: float = 0.2, seed: int = 1) -> Manifest:
    """Read a folder with data.yaml, or that file, into the new folder `out`, which appears whole or not at all.

    Lines are painted in the file's order. An image whose file of lines is empty has an empty mask, one without it none.
    Raises: DataError naming the file and the line.
    """
    description = source / "data.yaml" if source.is_dir() else source
    tree = read_yaml(description)
    root = description.parent
    classes = _names(tree.get("names"), description)
    facts = parse_facts(read_json(root / FILE), str(root / FILE)) if (root / FILE).exists() else None
    mask_classes = mask_classes_of(classes, facts, str(description))
    with fresh_folder(out) as folder:
        canvas = Canvas(folder)
        for split, place in _places(tree, root, description):
            for image in _images(root, place):
                path = resolve_inside(root.resolve(), image)
                labels = resolve_inside(root.resolve(), _labels_name(image))
                mask = _painted(labels, path, len(classes)) if labels.exists() else None
                row = Row(image, split=split)
                canvas.add(path, _plain_name(image), mask, facts.row(image, row) if facts else row)
        if not any(row.mask for row in canvas.rows):
            raise DataError(
                f"{source}: no image has a file of labels; expected images/train/1.jpg and labels/train/1.txt."
            )
        return canvas.finish(out, mask_classes, facts, validation_share, seed)


def _names(value: object, path: Path) -> tuple[str, ...]:
    """Read names, a list or a mapping from 0, 1, 2, ..."""
    if isinstance(value, Mapping):
        if set(value) != set(range(len(value))):
            raise DataError(f"{path}: names has the keys {brief(list(value))}; expected 0, 1, 2, ...")
        value = [value[index] for index in range(len(value))]
    return names(value, f"{path}, names")


def _places(tree: Mapping[str, Any], root: Path, description: Path) -> Iterator[tuple[str, str]]:
    """List splits with their folders of images: as data.yaml has them, else by custom. `path` is passed over."""
    found = {}
    for key, split in SPLIT_NAMES.items():
        value = tree.get(key)
        if value in (None, ""):
            value = next((place for place in (f"images/{key}", f"{key}/images") if (root / place).is_dir()), None)
        if value is None or split in found:
            continue
        if not isinstance(value, str) or value.endswith(".txt"):
            raise DataError(f"{description}: {key} is {brief(value)}; expected one folder of images, below data.yaml.")
        found[split] = checked_path(value.removeprefix("./"), f"{description}, {key}", key)
    if (root / "images/unused").is_dir():
        found[""] = "images/unused"  # rows without a split, as mnsa writes them
    if not found:
        raise DataError(f"{description} names no folder of images; expected a line such as `train: images/train`.")
    for split, place in found.items():
        if "images" not in place.split("/") or not (root / place).is_dir():
            raise DataError(f"{description}: {place} is no folder of images; expected images/train or train/images.")
        yield split, place


def _images(root: Path, place: str) -> list[str]:
    paths = sorted(resolve_inside(root.resolve(), place).rglob("*"))
    found = [path.relative_to(root.resolve()).as_posix() for path in paths if path.suffix.lower() in SUFFIXES]
    return [checked_name(name, str(root)) for name in found]


def _labels_name(image: str) -> str:
    """Name the file of lines: the last level called images becomes labels, the ending .txt."""
    before, _, after = f"/{image}".rpartition("/images/")
    return f"{before}/labels/{after.rpartition('.')[0]}.txt".removeprefix("/")


def _plain_name(image: str) -> str:
    """Leave out the level that all images share."""
    before, _, after = f"/{image}".rpartition("/images/")
    return f"{before}/{after}".removeprefix("/")


def _painted(labels: Path, image: Path, classes: int) -> np.ndarray:
    height, width = upright_size(image)
    mask = np.zeros((height, width), np.uint8)
    for number, line in enumerate(read_text(labels).splitlines(), 1):
        if not (cells := line.split()):
            continue
        where = f"{labels}, line {number}"
        try:
            index, corners = _parsed(cells, classes)
            with np.errstate(over="ignore"):  # the infinite is refused with the other strangers
                corners = corners * (width, height)
            paint_polygons(mask, [corners], index + 1)
        except BrokenPolygonError as error:
            raise DataError(f"{where} {error}. Correct the line, or take it out.") from None
    return mask


def _parsed(cells: list[str], classes: int) -> tuple[int, np.ndarray]:
    if not (cells[0].isascii() and cells[0].isdigit() and len(cells[0]) < 5 and int(cells[0]) < classes):
        raise BrokenPolygonError(f"begins with {brief(cells[0])}; expected a class from 0 to {classes - 1}")
    if len(cells) == 5:
        raise BrokenPolygonError("is a box of four numbers; expected a polygon, x y x y x y ...")
    try:
        numbers = np.array([float(cell) for cell in cells[1:]])
    except ValueError:
        raise BrokenPolygonError("holds text that is no number") from None
    if len(numbers) % 2:
        raise BrokenPolygonError(f"holds {len(numbers)} numbers after the class; expected pairs of x and y")
    return int(cells[0]), numbers.reshape(-1, 2)
