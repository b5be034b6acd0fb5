"""YOLO segmentation: data.yaml, images/SPLIT and labels/SPLIT.

Each line of a label file has a class index and a polygon. Coordinates are fractions of the image's width and height.
"""

import logging
from collections.abc import Iterator, Mapping, Set
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

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
from mnsa.data.formats.names import FileNames, ListedImages, clean_class_name
from mnsa.data.formats.sidecar import SIDECAR_FILE, build_sidecar, foreground_names, parse_sidecar, resolve_mask_classes
from mnsa.data.formats.untrusted import read_json, read_text, read_yaml, require_names, shorten
from mnsa.data.manifest import SPLITS, Manifest, Row, new_dataset_folder, resolve_inside
from mnsa.data.paths import PassedOver, find_folder, list_images_to_import, scan_images
from mnsa.data.rows import is_inside_root
from mnsa.errors import DataError

logger = logging.getLogger(__name__)


def import_yolo(source: Path, out: Path, *, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Import a folder with data.yaml, or the path of data.yaml, into the new folder `out`. An error leaves no folder.

    A folder with classes.txt instead, as Label Studio writes it, has the folders images and labels.
    Polygons are drawn in the file's order. An image with an empty label file gets an empty mask; an image without a
    label file gets no mask. Raises: DataError with the file and the line.
    """
    description, root = _find_description(source)
    tree = read_yaml(description) if description.suffix != ".txt" else {"names": read_text(description).splitlines()}
    classes = _parse_class_names(tree.get("names"), description)
    sidecar = (
        parse_sidecar(read_json(root / SIDECAR_FILE), str(root / SIDECAR_FILE))
        if (root / SIDECAR_FILE).exists()
        else None
    )
    mask_classes = resolve_mask_classes(classes, sidecar, str(description))
    with new_dataset_folder(out) as folder:
        builder, painter, files = DatasetBuilder(folder), MaskPainter(classes), FileNames()
        used: set[str] = set()
        for split, image in _list_split_images(tree, root, description):
            path = resolve_inside(root.resolve(), image)
            labels = files.find(root, _label_file_name(root, image))
            mask = None
            if labels is not None:
                used.add(labels)
                mask = _read_label_mask(resolve_inside(root.resolve(), labels), path, len(classes), painter)
            row = Row(image, split=split)
            builder.add(
                path, _name_without_images_level(image), mask, sidecar.complete_row(image, row) if sidecar else row
            )
        if not any(row.mask for row in builder.rows):
            raise DataError(f"{source}: no image has a label file; expected images/train/1.jpg and labels/train/1.txt.")
        painter.log_losses(str(source))
        _log_unused(root, used)
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


def _find_description(source: Path) -> tuple[Path, Path]:
    """The data.yaml of a folder, or else its list of classes, and the folder that its paths are relative to."""
    if not source.is_dir():
        return source, source.parent
    for name in ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "labels/classes.txt"):
        if (source / name).is_file():
            return source / name, source
    raise DataError(f"{source} has no data.yaml, and no classes.txt. Give the folder that was exported for YOLO.")


def _parse_class_names(value: object, path: Path) -> tuple[str, ...]:
    """Read class names: a list, or a mapping from 0, 1, 2, ... to names."""
    if isinstance(value, Mapping):
        value = {int(key) if isinstance(key, str) and key.isdecimal() else key: name for key, name in value.items()}
        if set(value) != set(range(len(value))):
            raise DataError(f"{path}: names has the keys {shorten(list(value))}; expected 0, 1, 2, ...")
        value = [value[index] for index in range(len(value))]
    names = require_names(value, f"{path}, names")
    return require_names([clean_class_name(name, f"{path}, names") for name in names], f"{path}, names")


def _split_places(tree: Mapping[str, Any], root: Path, description: Path) -> dict[str, list[str]]:
    """The folders and lists of images of each split: as in data.yaml, else the usual ones. `path` is ignored."""
    places: dict[str, list[str]] = {}
    for key, split in SPLIT_ALIASES.items():
        value = tree.get(key)
        if value in (None, "", []):
            value = next(filter(None, (find_folder(root, place) for place in (f"images/{key}", f"{key}/images"))), None)
        if value is None or split in places:
            continue
        places[split] = value if isinstance(value, list) else [value]
        if not all(isinstance(place, str) and place for place in places[split]):
            raise DataError(f"{description}: {key} is {shorten(value)}; expected image folders, or lists of images.")
    if (root / "images/unused").is_dir():
        places[""] = ["images/unused"]  # rows without a split, as mnsa writes them
    if not places and (root / "images").is_dir():
        places["train"] = ["images"]
    if not places:
        raise DataError(f"{description} names no image folder; expected a line such as `train: images/train`.")
    return places


def _list_split_images(tree: Mapping[str, Any], root: Path, description: Path) -> Iterator[tuple[str, str]]:
    """Yield (split, image). Each folder or list is read once; one that does not exist is left out, except in train."""
    taken: dict[str, str] = {}
    listed = [(split, text) for split, texts in _split_places(tree, root, description).items() for text in texts]
    for split, text in listed:
        place = _find_place(root, text)
        if place is None and split == "train":
            raise DataError(f"{description}: there is no {text} below {root}. Write `train: images/train`.")
        if place is None:  # exports without a split list it all the same
            logger.warning("%s: the folder %s of split %s does not exist; it is left out", description, text, split)
        elif place in taken:
            first = taken[place]
            logger.warning("%s: %s is also that of split %s; split %s lacks it", description, place, first, split)
        else:
            taken[place] = split
            yield from ((split, image) for image in _list_images(root, place, description))


def _find_place(root: Path, text: str) -> str | None:
    """Find a folder, or a list of images, by its last levels: tools list the folders of another machine.

    Roboflow writes ../train/images for the folder train/images beside data.yaml.
    """
    levels = [level for level in text.replace("\\", "/").split("/") if level not in ("", ".", "..")]
    for start in range(len(levels)):
        place = "/".join(levels[start:])
        if not is_inside_root(place):
            continue
        if text.endswith(".txt") and (root / place).is_file():
            return place
        if found := find_folder(root, place):
            return found
    return None


def _list_images(root: Path, place: str, description: Path) -> list[str]:
    if place.endswith(".txt"):
        lines = read_text(resolve_inside(root.resolve(), place)).splitlines()
        listed = ListedImages(root)
        images = [
            listed.find(line.strip(), f"{root / place}, line {n}") for n, line in enumerate(lines, 1) if line.strip()
        ]
    else:
        folder = resolve_inside(root.resolve(), place)
        above = PurePosixPath(folder.relative_to(root.resolve()).as_posix())
        images = [validate_image_name(str(above / path), str(root)) for path in list_images_to_import(folder)]
    if stray := next((image for image in images if "/images/" not in f"/{image}".lower()), None):
        raise DataError(
            f"{description}: {stray} lies in no folder named images, so its labels are not found; expected "
            "images/train/1.jpg and labels/train/1.txt, or train/images/1.jpg and train/labels/1.txt."
        )
    return images


def _label_file_name(root: Path, image: str) -> str:
    """Get the label file of an image: the last folder named images becomes labels, and the suffix becomes .txt."""
    at = f"/{image}".lower().rindex("/images/")
    file = image[at + len("images/") :].rpartition(".")[0] + ".txt"
    folder = image[:at] + "labels"
    return f"{find_folder(root, folder) or folder}/{file}"


def _log_unused(root: Path, used: Set[str]) -> None:
    """Log the label files that no image has."""
    for folder in sorted({PurePosixPath(name).parent for name in used}):
        found = scan_images(root / folder, PassedOver(), recursive=False, suffixes={".txt"})
        unused = [name.name for name in found if str(folder / name) not in used and name.name != "classes.txt"]
        if unused:
            logger.warning("%s: %s label files have no image, such as %s", root / folder, len(unused), unused[0])


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
        raise InvalidPolygonError(
            "is a box of four numbers; expected a polygon, x y x y x y .... Export for segmentation"
        )
    try:
        numbers = np.array([float(cell) for cell in cells[1:]])
    except ValueError:
        raise InvalidPolygonError("holds text that is no number") from None
    if len(numbers) % 2:
        raise InvalidPolygonError(
            f"holds {len(numbers)} numbers after the class; expected pairs of x and y, without a confidence (save_conf)"
        )
    return int(cells[0]), numbers.reshape(-1, 2)


def _label_lines(mask: np.ndarray) -> str:
    size = mask.shape[::-1]
    lines = []
    for region in find_regions(mask):
        fractions = (trace_outline(region) / size).ravel()
        lines.append(" ".join((str(region.value - 1), *(f"{fraction:.9g}" for fraction in fractions))) + "\n")
    return "".join(lines)
