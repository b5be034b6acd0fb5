"""COCO: one JSON of images, annotations and categories, or one per split; polygons and run lengths become masks."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnsa.data.decoding import resolve_inside
from mnsa.data.importers.common import SPLIT_NAMES
from mnsa.data.importers.painted import Canvas
from mnsa.data.layouts import rle
from mnsa.data.layouts.careful import brief, mapping, read_json
from mnsa.data.layouts.classes import BACKGROUND, mask_classes_of
from mnsa.data.layouts.facts import KEY, Facts, parse_facts
from mnsa.data.layouts.pictures import checked_name, upright_size
from mnsa.data.layouts.polygon import BrokenPolygonError, paint_polygons
from mnsa.data.manifest import Manifest, Row, fresh_folder
from mnsa.errors import DataError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class _File:
    """One JSON file, checked as far as it can be without looking at images."""

    path: Path
    split: str
    images: Mapping[int, tuple[str, Record]]  # id -> name, record
    annotations: Mapping[int, list[Record]]  # image id -> those that are painted on it, in the file's order
    categories: Mapping[int, str]
    facts: Facts | None


def import_coco(source: Path, out: Path, *, images: Path, validation_share: float = 0.2, seed: int = 1) -> Manifest:
    """Read a JSON file, or a folder of one per split, into the new folder `out`, which appears whole or not at all.

    images: where file names start. Annotations are painted in the file's order, later ones over earlier; an image
    without any has an empty mask. Raises: DataError naming the file and the annotation.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not paths:
        raise DataError(f"{source} holds no .json file. Give COCO's file of annotations, or the folder of them.")
    if not images.is_dir():
        raise DataError(f"{images} is no folder. Give the folder where the images' file names start (--images).")
    with fresh_folder(out) as folder:
        canvas = Canvas(folder)
        files = [_read(path) for path in paths]
        categories = _merged(files)
        value_of = _values(categories)
        facts = next((file.facts for file in files if file.facts), None)
        found = [name for number, name in sorted(categories.items()) if value_of[number]]
        mask_classes = mask_classes_of(found, facts, str(source))
        _require_once(files)
        for file in files:
            _paint_all(file, images, value_of, canvas)
        return canvas.finish(out, mask_classes, facts, validation_share, seed)


def _read(path: Path) -> _File:
    tree = read_json(path)
    categories = {
        _whole(entry, "id", where): _text(entry, "name", where) for entry, where in _records(tree, "categories", path)
    }
    images: dict[int, tuple[str, Record]] = {}
    for record, where in _records(tree, "images", path):
        number = _whole(record, "id", where)
        if number in images:
            raise DataError(f"{where}: the image id {number} is used before. Give each image an id of its own.")
        images[number] = (checked_name(record.get("file_name"), where), record)
    annotations: defaultdict[int, list[Record]] = defaultdict(list)
    for record, where in _records(tree, "annotations", path):
        if (number := _whole(record, "image_id", where)) not in images:
            raise DataError(f"{where}: there is no image of the id {number}. Take the annotation out.")
        if (category := _whole(record, "category_id", where)) not in categories:
            raise DataError(f"{where}: there is no category of the id {category}. Name it among the categories.")
        annotations[number].append({**record, "where": where})
    about = tree.get("info")
    facts = parse_facts(about.get(KEY), f"{path}, info.{KEY}") if isinstance(about, Mapping) else None
    return _File(path, _split(path), images, annotations, categories, facts)


def _records(tree: Record, key: str, path: Path) -> list[tuple[Record, str]]:
    """List the records under a key, each with a place for error messages."""
    entries = tree.get(key, [] if key == "annotations" else None)
    if not isinstance(entries, list):
        raise DataError(f"{path}: {key} is {brief(entries)}; expected COCO's list of {key}.")
    kind = {"categories": "category", "images": "image", "annotations": "annotation"}[key]
    checked: list[tuple[Record, str]] = []
    for place, entry in enumerate(entries, 1):
        number = entry.get("id") if isinstance(entry, dict) else None
        where = f"{path}, {kind} {place}" + (f" (id {brief(number)})" if number is not None else "")
        checked.append((mapping(entry, where), where))
    return checked


def _whole(record: Record, key: str, where: str) -> int:
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where}: {key} is {brief(value)}; expected a whole number.")
    return value


def _text(record: Record, key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key} is {brief(value)}; expected text.")
    return value


def _split(path: Path) -> str:
    """Tell the split from a name such as instances_train2017.json; a file that names none is for training."""
    words = re.findall("[a-z]+", path.stem.lower())
    return "" if words == ["unused"] else next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


def _merged(files: list[_File]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for file in files:
        for number, name in file.categories.items():
            if categories.setdefault(number, name) != name:
                raise DataError(
                    f"{file.path}: category {number} is {name!r} here and {categories[number]!r} elsewhere."
                )
    return categories


def _values(categories: Mapping[int, str]) -> dict[int, int]:
    """Give each category, in the order of ids, its pixel value; one that is called background has 0."""
    values, value = {}, 0
    for number in sorted(categories):
        value += categories[number].casefold() != BACKGROUND
        values[number] = value if categories[number].casefold() != BACKGROUND else 0
    return values


def _require_once(files: list[_File]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        for name, _ in file.images.values():
            if name in seen:
                raise DataError(f"{file.path}: image {name!r} is listed before, in {seen[name]}. List it once.")
            seen[name] = file.path


def _paint_all(file: _File, images: Path, value_of: Mapping[int, int], canvas: Canvas) -> None:
    for number, (name, record) in file.images.items():
        where = f"{file.path}, image {name}"
        path = resolve_inside(images.resolve(), name)
        height, width = upright_size(path)
        if (record.get("height", height), record.get("width", width)) != (height, width):
            raise DataError(
                f"{where}: the file has {width} x {height} pixels, upright; the annotations are for "
                f"{brief(record.get('width'))} x {brief(record.get('height'))}. Use the images they were drawn on."
            )
        mask = None
        if not (file.facts and file.facts.lacks_mask(name)):
            mask = np.zeros((height, width), np.uint8)
            for annotation in file.annotations.get(number, []):
                _paint(mask, annotation, value_of[annotation["category_id"]])
        row = Row(name, split=file.split)
        canvas.add(path, name, mask, file.facts.row(name, row) if file.facts else row)


def _paint(mask: np.ndarray, annotation: Record, value: int) -> None:
    shape, where = annotation.get("segmentation"), annotation["where"]
    try:
        if isinstance(shape, list) and shape:
            paint_polygons(mask, [_corners(numbers) for numbers in shape], value)
        elif isinstance(shape, dict):
            rle.paint_runs(mask, _runs(shape, mask), value)
        else:
            raise BrokenPolygonError(
                f"has the segmentation {brief(shape)}; expected polygons or run lengths, as boxes are no masks"
            )
    except (BrokenPolygonError, rle.BrokenRunsError) as error:
        raise DataError(f"{where} {error}. Correct the annotation, or take it out.") from None


def _corners(numbers: object) -> np.ndarray:
    if not isinstance(numbers, list) or len(numbers) % 2 or not all(type(number) in (int, float) for number in numbers):
        raise BrokenPolygonError(f"has a polygon that is no list of x, y, x, y, ... ({brief(numbers)})")
    try:
        return np.array(numbers, dtype=np.float64).reshape(-1, 2)
    except OverflowError:
        raise BrokenPolygonError("has a polygon with coordinates beyond all images") from None


def _runs(shape: Record, mask: np.ndarray) -> list[int]:
    if shape.get("size") != list(mask.shape):
        raise rle.BrokenRunsError(
            f"has run lengths of the size {brief(shape.get('size'))}; the image's is {list(mask.shape)}"
        )
    counts = shape.get("counts")
    if isinstance(counts, str):
        return rle.unpack(counts, mask.size)
    if not isinstance(counts, list):
        raise rle.BrokenRunsError(f"has run lengths {brief(counts)}; expected a list or COCO's text")
    return counts
