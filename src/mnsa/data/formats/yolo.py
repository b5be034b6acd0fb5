"""YOLO segmentation: data.yaml, images/SPLIT and labels/SPLIT.

Each line of a label file has a class index and a polygon. Coordinates are fractions of the image's width and height.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from mnsa.data.decode import resolve_inside
from mnsa.data.formats.common import (
    SPLIT_ALIASES,
    DatasetBuilder,
    NamedRow,
    export_by_split,
    upright_size,
    validate_image_name,
    write_json,
)
from mnsa.data.formats.mask_encoding import InvalidPolygonError, find_regions, trace_outline
from mnsa.data.formats.mask_painter import MaskPainter
from mnsa.data.formats.sidecar import SIDECAR_FILE, build_sidecar, foreground_names, parse_sidecar, resolve_mask_classes
from mnsa.data.formats.untrusted import read_json, read_text, read_yaml, require_names, shorten
from mnsa.data.manifest import SPLITS, Manifest, Row, new_dataset_folder, validate_path
from mnsa.data.paths import find_folder, list_images_to_import
from mnsa.errors import DataError

logger = logging.getLogger(__name__)


def import_yolo(source: Path, out: Path, *, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Import a folder with data.yaml, or the path of data.yaml, into the new folder `out`. An error leaves no folder.

    Polygons are drawn in the file's order. An image with an empty label file gets an empty mask; an image without a
    label file gets no mask. Raises: DataError with the file and the line.
    """
    description = source / "data.yaml" if source.is_dir() else source
    tree = read_yaml(description)
    root = description.parent
    classes = _parse_class_names(tree.get("names"), description)
    sidecar = (
        parse_sidecar(read_json(root / SIDECAR_FILE), str(root / SIDECAR_FILE))
        if (root / SIDECAR_FILE).exists()
        else None
    )
    mask_classes = resolve_mask_classes(classes, sidecar, str(description))
    with new_dataset_folder(out) as folder:
        builder, painter = DatasetBuilder(folder), MaskPainter(classes)
        for split, place in _split_folders(tree, root, description):
            for image in _list_images(root, place):
                path = resolve_inside(root.resolve(), image)
                labels = resolve_inside(root.resolve(), _label_file_name(root, image))
                mask = _read_label_mask(labels, path, len(classes), painter) if labels.exists() else None
                row = Row(image, split=split)
                builder.add(
                    path, _name_without_images_level(image), mask, sidecar.complete_row(image, row) if sidecar else row
                )
        if not any(row.mask for row in builder.rows):
            raise DataError(f"{source}: no image has a label file; expected images/train/1.jpg and labels/train/1.txt.")
        painter.log_covered(str(source))
        return builder.finish(out, mask_classes, sidecar, val_fraction, seed)


def write_yolo(manifest: Manifest, entries: list[NamedRow], folder: Path) -> None:
    """Write a data set into an existing folder. Each connected region becomes one line: its outline, without any loss.

    The outline follows the pixels' edges and is connected to the holes.
    """

    def write(mask: np.ndarray, path: Path) -> None:
        Path(f"{path}.txt").write_text(_label_lines(mask), encoding="ascii", newline="\n")

    copied = export_by_split(manifest, entries, folder, "labels", write)
    name_of = {image: f"images/{name}" for image, name in copied.items()}
    used = {row.split for row in manifest.rows}
    image_folders = {split: f"images/{split}" for split in SPLITS if split in used}
    tree = {**image_folders, "names": dict(enumerate(foreground_names(manifest.mask_classes)))}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8", newline="\n")
    write_json(build_sidecar(manifest, name_of), folder / SIDECAR_FILE)


def _parse_class_names(value: object, path: Path) -> tuple[str, ...]:
    """Read class names: a list, or a mapping from 0, 1, 2, ... to names."""
    if isinstance(value, Mapping):
        if set(value) != set(range(len(value))):
            raise DataError(f"{path}: names has the keys {shorten(list(value))}; expected 0, 1, 2, ...")
        value = [value[index] for index in range(len(value))]
    return require_names(value, f"{path}, names")


def _split_folders(tree: Mapping[str, Any], root: Path, description: Path) -> Iterator[tuple[str, str]]:
    """Yield (split, image folder) as given in data.yaml, else by the usual folder names. The key `path` is ignored."""
    found: dict[str, str] = {}
    for key, split in SPLIT_ALIASES.items():
        value = tree.get(key)
        if value in (None, ""):
            value = next(filter(None, (find_folder(root, place) for place in (f"images/{key}", f"{key}/images"))), None)
        if value is None or split in found:
            continue
        if not isinstance(value, str) or value.endswith(".txt"):
            raise DataError(f"{description}: {key} is {shorten(value)}; expected one image folder below data.yaml.")
        # Roboflow writes ../train/images for the folder train/images beside data.yaml.
        place = validate_path(value.removeprefix("./").removeprefix("../"), f"{description}, {key}", key)
        found[split] = find_folder(root, place) or place
    if (root / "images/unused").is_dir():
        found[""] = "images/unused"  # rows without a split, as mnsa writes them
    if not found:
        raise DataError(f"{description} names no image folder; expected a line such as `train: images/train`.")
    for split, place in found.items():
        if split != "train" and not (root / place).exists():  # exports without a split list it all the same
            logger.warning("%s: the folder %s of split %s does not exist; it is left out", description, place, split)
            continue
        if "images" not in place.lower().split("/") or not (root / place).is_dir():
            raise DataError(f"{description}: {place} is not an image folder; expected images/train or train/images.")
        yield split, place


def _list_images(root: Path, place: str) -> list[str]:
    folder = resolve_inside(root.resolve(), place)
    above = PurePosixPath(folder.relative_to(root.resolve()).as_posix())
    return [validate_image_name(str(above / path), str(root)) for path in list_images_to_import(folder)]


def _label_file_name(root: Path, image: str) -> str:
    """Get the label file of an image: the last folder named images becomes labels, and the suffix becomes .txt."""
    at = f"/{image}".lower().rindex("/images/")
    file = image[at + len("images/") :].rpartition(".")[0] + ".txt"
    folder = image[:at] + "labels"
    return f"{find_folder(root, folder) or folder}/{file}"


def _name_without_images_level(image: str) -> str:
    """Remove the last folder named images from a path."""
    at = f"/{image}".lower().rindex("/images/")
    return image[:at] + image[at + len("images/") :]


def _read_label_mask(labels: Path, image: Path, classes: int, painter: MaskPainter) -> np.ndarray:
    height, width = upright_size(image)
    mask = np.zeros((height, width), np.uint8)
    for number, line in enumerate(read_text(labels).splitlines(), 1):
        if not (cells := line.split()):
            continue
        location = f"{labels}, line {number}"
        try:
            index, corners = _parse_line(cells, classes)
            with np.errstate(over="ignore"):  # infinite values are rejected below
                corners = corners * (width, height)
            painter.polygons(mask, [corners], index + 1)
        except InvalidPolygonError as error:
            raise DataError(f"{location} {error}. Correct or remove the line.") from None
    return mask


def _parse_line(cells: list[str], classes: int) -> tuple[int, np.ndarray]:
    if not (cells[0].isascii() and cells[0].isdigit() and len(cells[0]) < 5 and int(cells[0]) < classes):
        raise InvalidPolygonError(f"begins with {shorten(cells[0])}; expected a class from 0 to {classes - 1}")
    if len(cells) == 5:
        raise InvalidPolygonError("is a box of four numbers; expected a polygon, x y x y x y ...")
    try:
        numbers = np.array([float(cell) for cell in cells[1:]])
    except ValueError:
        raise InvalidPolygonError("holds text that is no number") from None
    if len(numbers) % 2:
        raise InvalidPolygonError(f"holds {len(numbers)} numbers after the class; expected pairs of x and y")
    return int(cells[0]), numbers.reshape(-1, 2)


def _label_lines(mask: np.ndarray) -> str:
    size = mask.shape[::-1]
    lines = []
    for region in find_regions(mask):
        fractions = (trace_outline(region) / size).ravel()
        lines.append(" ".join((str(region.value - 1), *(f"{fraction:.9g}" for fraction in fractions))) + "\n")
    return "".join(lines)
