"""CVAT's XML, exported as `CVAT for images 1.1`: its shapes become masks; see `shapes`.

Source: cvat/apps/dataset_manager/formats/cvat.py. A brush mask has the lengths of runs along the rows of its box.
"""

from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from xml.parsers import expat

from mnsa.data.formats.common import SPLIT_ALIASES
from mnsa.data.formats.names import ListedImages, clean_class_name
from mnsa.data.formats.shapes import (
    AnnotatedImage,
    BrushMask,
    Outline,
    Shape,
    box,
    ellipse,
    kind_error,
    parse_points,
    take_numbers,
    write_dataset,
)
from mnsa.data.formats.untrusted import MAX_JSON_BYTES, read_text, shorten
from mnsa.data.manifest import Manifest
from mnsa.errors import DataError

_MAX_DIGITS = 12  # of a pixel count


def import_cvat(source: Path, out: Path, *, images: Path, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Import an annotations.xml of "CVAT for images", or its folder, into the new folder `out`.

    images: folder that the names are relative to. The subsets of images are the splits. An error leaves no folder.
    Raises: DataError.
    """
    reader = _read_cvat(source / "annotations.xml" if source.is_dir() else source, images)
    return write_dataset(source, out, images, reader.found, reader.labels, val_fraction, seed)


class _CvatReader:
    """Reads annotations.xml: images with their shapes by layer, and the labels in the order of the project."""

    def __init__(self, path: Path, images: Path) -> None:
        self._path, self._images = path, ListedImages(images)
        self._tags: list[str] = []
        self._layers: list[list[tuple[int, Shape]]] = []
        self.found: list[AnnotatedImage] = []
        self.labels: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._tags.append(tag)
        if tag == "image":
            location = f"{self._path}, image {shorten(attributes.get('name'))}"
            size = _integer(attributes, "height", location), _integer(attributes, "width", location)
            split = SPLIT_ALIASES.get(attributes.get("subset", "").lower(), "train")
            name = self._images.find(attributes.get("name"), location)
            self.found.append(AnnotatedImage(name, location, size, split))
            self._layers.append([])
        elif self._tags[-2:-1] == ["image"] and tag != "tag":
            location = f"{self.found[-1].location}, {tag} {len(self._layers[-1]) + 1}"
            pixels = _parse_pixels(tag, attributes, location)
            layer = _integer({"z_order": "0", **attributes}, "z_order", location)
            self._layers[-1].append(
                (layer, Shape(clean_class_name(attributes.get("label"), location), pixels, location))
            )
        elif self._tags[-2:-1] == ["image"]:
            self.found[-1].tags.append(attributes.get("label", ""))
        elif tag == "track":
            raise DataError(f"{self._path} is an export of a video. Export the task as `CVAT for images 1.1`.")

    def end(self, _tag: str) -> None:
        if self._tags.pop() == "image":
            self.found[-1].shapes = [shape for _, shape in sorted(self._layers[-1], key=itemgetter(0))]

    def text(self, data: str) -> None:
        if self._tags[-3:] == ["labels", "label", "name"]:
            self.labels.append(clean_class_name(data, str(self._path)))

    def refuse_document_type(self, *_: object) -> None:
        """Entities could grow without limit."""
        raise DataError(f"{self._path} has a document type. Export it again as `CVAT for images 1.1`.")


def _read_cvat(path: Path, images: Path) -> _CvatReader:
    reader, parser = _CvatReader(path, images), expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.text, reader.refuse_document_type
    try:
        parser.Parse(read_text(path, MAX_JSON_BYTES).encode(), True)
    except expat.ExpatError as error:
        raise DataError(f"{path} can't be read as XML: {error}. Export it again as `CVAT for images 1.1`.") from None
    if not reader.found:
        raise DataError(f"{path} names no image. Export the task as `CVAT for images 1.1`.")
    return reader


def _parse_pixels(tag: str, attributes: Mapping[str, str], location: str) -> Outline | BrushMask:
    numbers = {"rotation": "0", **attributes}
    if tag == "polygon":
        pairs = [pair.split(",") for pair in attributes.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError(f"{location} has the points {shorten(attributes.get('points'))}; expected x,y;x,y;...")
        return Outline(parse_points(pairs, location))
    if tag == "box":
        return box(*take_numbers(numbers, ("xtl", "ytl", "xbr", "ybr", "rotation"), location), location=location)
    if tag == "ellipse":
        return ellipse(*take_numbers(numbers, ("cx", "cy", "rx", "ry", "rotation"), location), location=location)
    if tag == "mask":
        left, top, width, height = (_integer(attributes, name, location) for name in ("left", "top", "width", "height"))
        text = attributes.get("rle", "")
        runs = [run.strip() for run in text.split(",")]
        if not all(run.isascii() and run.isdigit() and len(run) <= _MAX_DIGITS for run in runs):
            raise DataError(f"{location} has the runs {shorten(text)}; expected pixel counts: 3, 5, ...")
        return BrushMask(left, top, width, height, list(map(int, runs)))
    raise kind_error(tag, location)


def _integer(attributes: Mapping[str, str], name: str, location: str) -> int:
    (number,) = take_numbers(attributes, (name,), location)
    return int(number)
