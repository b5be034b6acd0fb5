"""COCO: one JSON of images, annotations and categories, or one per split.

Reading turns polygons and run-length encodings into masks. Writing turns each region of a mask into an annotation.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnsa.data.formats import mask_encoding
from mnsa.data.formats.common import (
    SPLIT_ALIASES,
    DatasetBuilder,
    NamedRow,
    copy_upright,
    is_turned,
    listed_size,
    read_row_mask,
    upright_size,
    write_json,
)
from mnsa.data.formats.mask_encoding import (
    InvalidPolygonError,
    Region,
    compress_rle,
    encode_region,
    find_regions,
)
from mnsa.data.formats.mask_painter import MaskPainter
from mnsa.data.formats.names import ListedImages, clean_class_name
from mnsa.data.formats.sidecar import (
    BACKGROUND,
    SIDECAR_KEY,
    Sidecar,
    build_sidecar,
    foreground_names,
    parse_sidecar,
    resolve_mask_classes,
)
from mnsa.data.formats.untrusted import read_json, require_mapping, shorten
from mnsa.data.manifest import Manifest, Row, new_dataset_folder, resolve_inside
from mnsa.data.paths import is_ignored, log_unlisted
from mnsa.errors import DataError

Record = Mapping[str, Any]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _AnnotationFile:
    """One JSON file. It is validated as far as possible without reading the images."""

    path: Path
    split: str
    images: Mapping[int, tuple[str, Record]]  # id -> name, record
    annotations: Mapping[int, list[Record]]  # image id -> its annotations, in the file's order
    categories: Mapping[int, str]
    groups: frozenset[int]  # categories that have no annotation and are only the `supercategory` of others
    sidecar: Sidecar | None


def import_coco(source: Path, out: Path, *, images: Path, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Import a JSON file, a folder with one JSON file per split, or one with a folder per split (Roboflow).

    `out` is new; an error leaves no folder. images: folder that the file names are relative to. Annotations are drawn
    in the file's order, later ones over earlier ones. An image without annotations gets an empty mask.
    Raises: DataError with the file and the annotation.
    """
    paths = _list_annotation_files(source)
    if not images.is_dir():
        raise DataError(f"{images} is no folder. Give the folder where the images' file names start (--images).")
    with new_dataset_folder(out) as folder:
        builder = DatasetBuilder(folder)
        listed = ListedImages(images)
        files = [_read_annotation_file(path, listed, source) for path in paths]
        categories = _merge_categories(files)
        value_of = _pixel_values(categories)
        sidecar = next((file.sidecar for file in files if file.sidecar), None)
        found = [name for number, name in sorted(categories.items()) if value_of[number]]
        mask_classes = resolve_mask_classes(found, sidecar, str(source))
        painter = MaskPainter(found)
        _require_unique_images(files)
        log_unlisted(images, (name for file in files for name, _ in file.images.values()), used_suffix=".json")
        for file in files:
            _paint_masks(file, images, value_of, builder, painter)
        painter.log_losses(str(source))
        return builder.finish(out, mask_classes, sidecar, val_fraction, seed)


def write_coco(manifest: Manifest, entries: list[NamedRow], folder: Path) -> None:
    """Write a data set into an existing folder.

    Category ids are pixel values; other ids count from 1 over all files.
    """
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    images: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    annotations: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    name_of: defaultdict[str, dict[str, str]] = defaultdict(dict)
    last = 0
    for number, (row, stem) in enumerate(entries, 1):
        name = copy_upright(manifest.image_path(row), folder / "images", stem)
        name_of[row.split][row.image] = name
        height, width = upright_size(manifest.image_path(row))
        images[row.split].append({"id": number, "file_name": name, "height": height, "width": width})
        found = _row_annotations(manifest, row, number, last)
        annotations[row.split].extend(found)
        last += len(found)
    categories = [{"id": value, "name": name} for value, name in enumerate(foreground_names(manifest.mask_classes), 1)]
    for split, records in images.items():
        tree = {
            "info": {"description": manifest.name, SIDECAR_KEY: build_sidecar(manifest, name_of[split])},
            "images": records,
            "annotations": annotations[split],
            "categories": categories,
        }
        write_json(tree, folder / "annotations" / f"{split or 'unused'}.json")


def _list_annotation_files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    for pattern in ("*.json", "*/*.json"):
        found = [path.relative_to(source) for path in sorted(source.glob(pattern))]
        if paths := [source / path for path in found if not any(map(is_ignored, path.parts))]:
            return paths
    raise DataError(f"{source} holds no .json file. Give COCO's file of annotations, or the folder of them.")


def _read_annotation_file(path: Path, listed: ListedImages, source: Path) -> _AnnotationFile:
    tree = read_json(path)
    categories = {
        _require_int(entry, "id", location): clean_class_name(entry.get("name"), location)
        for entry, location in _records(tree, "categories", path)
    }
    parents = [entry["supercategory"] for entry, _ in _records(tree, "categories", path) if _has_parent(entry)]
    place = path.parent.relative_to(source).as_posix() if source.is_dir() else ""
    images: dict[int, tuple[str, Record]] = {}
    for record, location in _records(tree, "images", path):
        number = _require_int(record, "id", location)
        if number in images:
            raise DataError(f"{location}: the image id {number} is used before. Give each image its own id.")
        images[number] = (listed.find(record.get("file_name"), location, place=place), record)
    annotations: defaultdict[int, list[Record]] = defaultdict(list)
    for record, location in _records(tree, "annotations", path):
        if (number := _require_int(record, "image_id", location)) not in images:
            raise DataError(f"{location}: there is no image of the id {number}. Remove the annotation.")
        if (category := _require_int(record, "category_id", location)) not in categories:
            raise DataError(f"{location}: there is no category of the id {category}. Add it to the categories.")
        annotations[number].append({**record, "location": location})
    info = tree.get("info")
    sidecar = parse_sidecar(info.get(SIDECAR_KEY), f"{path}, info.{SIDECAR_KEY}") if isinstance(info, Mapping) else None
    used = {record["category_id"] for records in annotations.values() for record in records}
    groups = frozenset(number for number, name in categories.items() if name in parents and number not in used)
    return _AnnotationFile(path, _split_of_file(path, place), images, annotations, categories, groups, sidecar)


def _has_parent(category: Record) -> bool:
    return category.get("supercategory") not in (None, category["name"])


def _records(tree: Record, key: str, path: Path) -> list[tuple[Record, str]]:
    """List the records under a key, each with its location for error messages."""
    entries = tree.get(key, [] if key == "annotations" else None)
    if not isinstance(entries, list):
        raise DataError(f"{path}: {key} is {shorten(entries)}; expected COCO's list of {key}.")
    kind = {"categories": "category", "images": "image", "annotations": "annotation"}[key]
    checked: list[tuple[Record, str]] = []
    for place, entry in enumerate(entries, 1):
        number = entry.get("id") if isinstance(entry, dict) else None
        location = f"{path}, {kind} {place}" + (f" (id {shorten(number)})" if number is not None else "")
        checked.append((require_mapping(entry, location), location))
    return checked


def _require_int(record: Record, key: str, location: str) -> int:
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{location}: {key} is {shorten(value)}; expected a whole number.")
    return value


def _split_of_file(path: Path, place: str) -> str:
    """Get the split from a name such as instances_train2017.json, or from the folder; without one, it is `train`."""
    words = re.findall("[a-z]+", f"{place} {path.stem}".lower())
    return (
        "" if words == ["unused"] else next((SPLIT_ALIASES[word] for word in words if word in SPLIT_ALIASES), "train")
    )


def _merge_categories(files: list[_AnnotationFile]) -> dict[int, str]:
    """Merge the categories of all files, without those that only group others, such as the first of Roboflow."""
    categories: dict[int, str] = {}
    for file in files:
        for number, name in file.categories.items():
            if categories.setdefault(number, name) != name:
                raise DataError(
                    f"{file.path}: category {number} is {name!r} here and {categories[number]!r} elsewhere."
                )
    used = {number for file in files for number in file.categories if number not in file.groups}
    return {number: name for number, name in categories.items() if number in used}


def _pixel_values(categories: Mapping[int, str]) -> dict[int, int]:
    """Assign pixel values to the categories in the order of their ids. A category named background gets 0."""
    values, value = {}, 0
    for number in sorted(categories):
        value += categories[number].casefold() != BACKGROUND
        values[number] = value if categories[number].casefold() != BACKGROUND else 0
    return values


def _require_unique_images(files: list[_AnnotationFile]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        for name, _ in file.images.values():
            if name in seen:
                raise DataError(f"{file.path}: image {name!r} is listed before, in {seen[name]}. List it once.")
            seen[name] = file.path


def _paint_masks(
    file: _AnnotationFile, images: Path, value_of: Mapping[int, int], builder: DatasetBuilder, painter: MaskPainter
) -> None:
    exchanged = []
    for number, (name, record) in file.images.items():
        location = f"{file.path}, image {name}"
        path = resolve_inside(images.resolve(), name)
        height, width = upright_size(path)
        listed = listed_size(record.get("height"), record.get("width")) or (height, width)
        if listed != (height, width) and listed == (width, height) and not is_turned(path):
            exchanged.append(name)  # by Label Studio; polygons that don't fit are refused below
        elif listed != (height, width):
            raise DataError(
                f"{location}: the file has {width} x {height} pixels, upright; the annotations are for "
                f"{shorten(record.get('width'))} x {shorten(record.get('height'))}. Use the images that were annotated."
            )
        mask = None
        if not (file.sidecar and file.sidecar.lacks_mask(name)):
            mask = np.zeros((height, width), np.uint8)
            for annotation in file.annotations.get(number, []):
                _paint_annotation(painter, mask, annotation, value_of[annotation["category_id"]])
        row = Row(name, split=file.split)
        builder.add(path, name, mask, file.sidecar.complete_row(name, row) if file.sidecar else row)
    if exchanged:
        logger.warning(
            "%s: width and height of %s images are exchanged, such as of %s. They are read by the sizes of the files.",
            file.path, len(exchanged), exchanged[0],
        )  # fmt: skip


def _paint_annotation(painter: MaskPainter, mask: np.ndarray, annotation: Record, value: int) -> None:
    shape, location = annotation.get("segmentation"), annotation["location"]
    try:
        if isinstance(shape, list) and shape:
            painter.polygons(mask, [_parse_polygon(numbers) for numbers in shape], value)
        elif isinstance(shape, dict):
            painter.runs(mask, _parse_rle(shape, mask), value)
        else:
            raise InvalidPolygonError(
                f"has the segmentation {shorten(shape)}; expected polygons or run lengths; boxes are no masks"
            )
    except (InvalidPolygonError, mask_encoding.InvalidRleError) as error:
        raise DataError(f"{location} {error}. Correct or remove the annotation.") from None


def _parse_polygon(numbers: object) -> np.ndarray:
    if not isinstance(numbers, list) or len(numbers) % 2 or not all(type(number) in (int, float) for number in numbers):
        raise InvalidPolygonError(f"has a polygon that is no list of x, y, x, y, ... ({shorten(numbers)})")
    try:
        return np.array(numbers, dtype=np.float64).reshape(-1, 2)
    except OverflowError:
        raise InvalidPolygonError("has a polygon with coordinates that are too large") from None


def _parse_rle(shape: Record, mask: np.ndarray) -> list[int]:
    if shape.get("size") != list(mask.shape):
        raise mask_encoding.InvalidRleError(
            f"has run lengths of the size {shorten(shape.get('size'))}; the image's is {list(mask.shape)}"
        )
    counts = shape.get("counts")
    if isinstance(counts, str):
        return mask_encoding.parse_compressed_rle(counts, mask.size)
    if not isinstance(counts, list):
        raise mask_encoding.InvalidRleError(f"has run lengths {shorten(counts)}; expected a list or COCO's text")
    return counts


def _row_annotations(manifest: Manifest, row: Row, image_id: int, last: int) -> list[dict[str, Any]]:
    mask = read_row_mask(manifest, row)
    if mask is None:
        return []
    height, width = mask.shape
    return [
        {"id": number, "image_id": image_id, **_region_annotation(region, height, width)}
        for number, region in enumerate(find_regions(mask), last + 1)
    ]


def _region_annotation(region: Region, height: int, width: int) -> dict[str, Any]:
    rows, columns = region.inside.shape
    return {
        "category_id": region.value,
        "segmentation": {"size": [height, width], "counts": compress_rle(encode_region(region, height, width))},
        "bbox": [region.left, region.top, columns, rows],
        "area": int(region.inside.sum()),
        "iscrowd": 0,
    }
