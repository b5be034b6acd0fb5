"""Outlines of annotation tools: CVAT's XML for images, Labelme's JSON per image, and VIA's JSON. They become masks.

Polygons, boxes, circles and ellipses are read; lines and points have no area and are refused. Shapes are painted in the
order of the file (CVAT: of z_order), later ones over earlier ones. Images are copied.
Sources: CVAT's "CVAT for images 1.1", Labelme 5's LabelFile, VGG Image Annotator 2's `_via_img_metadata`.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from mnsa.data.decode import resolve_inside
from mnsa.data.formats.common import SPLIT_ALIASES, DatasetBuilder, upright_size, validate_image_name
from mnsa.data.formats.mask_encoding import InvalidPolygonError
from mnsa.data.formats.mask_painter import MaskPainter
from mnsa.data.formats.sidecar import BACKGROUND, resolve_mask_classes
from mnsa.data.formats.untrusted import MAX_JSON_BYTES, read_json, read_text, require_mapping, shorten
from mnsa.data.manifest import Manifest, Row, new_dataset_folder
from mnsa.data.paths import PassedOver, log_unlisted, scan_images
from mnsa.data.rows import is_inside_root
from mnsa.errors import DataError

_CORNERS = 128  # of the polygon that stands for an ellipse

_BACKGROUNDS = (BACKGROUND, "_background_")  # the second is Labelme's

_Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """An outline: label, corners (N, 2) as x and y in pixels, and where it is in the file, for messages."""

    label: str
    corners: np.ndarray
    location: str


@dataclass(slots=True)
class AnnotatedImage:
    """An image and its shapes. name: path in the folder of images. size: (H, W) of the annotations, if known."""

    name: str
    location: str
    size: tuple[object, object] | None = None
    split: str = "train"
    shapes: list[Shape] = field(default_factory=list)


def import_cvat(source: Path, out: Path, *, images: Path, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Import an annotations.xml of "CVAT for images" into the new folder `out`. An error leaves no folder.

    images: folder that the names are relative to. The subsets of images are the splits. Raises: DataError.
    """
    reader = _read_cvat(source, images)
    return _write_dataset(source, out, images, reader.found, reader.labels, val_fraction, seed)


def import_labelme(
    source: Path, out: Path, *, images: Path | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Import a folder of Labelme's JSON files into the new folder `out`. An error leaves no folder.

    images: folder of the images; None: that of the JSON files. Raises: DataError.
    """
    paths = [source / path for path in scan_images(source, PassedOver(), suffixes={".json"})]
    if not paths:
        raise DataError(f"{source} holds no .json file. Give the folder of Labelme's files.")
    root = images or source
    found = [_read_labelme(path, path.parent.relative_to(source).as_posix(), root) for path in paths]
    return _write_dataset(source, out, root, found, [], val_fraction, seed)


def import_via(
    source: Path, out: Path, *, images: Path, attribute: str | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Import a project or an export (JSON) of the VGG Image Annotator into the new folder `out`.

    attribute: of the regions, whose value is the class; None: the only one. An error leaves no folder.
    Raises: DataError.
    """
    found = list(_read_via(source, images, attribute))
    return _write_dataset(source, out, images, found, [], val_fraction, seed)


def _write_dataset(
    source: Path, out: Path, images: Path, found: Sequence[AnnotatedImage], labels: Sequence[str], val_fraction: float,
    seed: int,
) -> Manifest:  # fmt: skip
    """Paint and write a data set. labels: names of classes that come first; others follow in the order of the text."""
    used = sorted({shape.label for image in found for shape in image.shapes})
    names = [name for name in dict.fromkeys([*labels, *used]) if name.casefold() not in _BACKGROUNDS]
    value_of = dict.fromkeys(used, 0) | {name: value for value, name in enumerate(names, 1)}
    mask_classes = resolve_mask_classes(names, None, str(source))
    seen: set[str] = set()
    with new_dataset_folder(out) as folder:
        builder, painter = DatasetBuilder(folder), MaskPainter(names)
        log_unlisted(images, [image.name for image in found], used_suffix=".json")
        for image in found:
            if image.name in seen:
                raise DataError(f"{image.location}: image {image.name!r} is listed before. List it once.")
            seen.add(image.name)
            path = resolve_inside(images.resolve(), image.name)
            height, width = upright_size(path)
            if image.size not in (None, (height, width)):
                raise DataError(
                    f"{image.location}: {path} has {width} x {height} pixels, upright; the annotations are for another "
                    "size. Use the images that were annotated."
                )
            mask = np.zeros((height, width), np.uint8)
            for shape in image.shapes:
                try:
                    painter.polygons(mask, [shape.corners], value_of[shape.label])
                except InvalidPolygonError as error:
                    raise DataError(f"{shape.location} {error}. Correct or remove the annotation.") from None
            builder.add(path, image.name, mask, Row(image.name, split=image.split))
        painter.log_covered(str(source))
        return builder.finish(out, mask_classes, None, val_fraction, seed)


class _CvatReader:
    """Reads annotations.xml: images with their shapes by layer, and the labels in the order of the project."""

    def __init__(self, path: Path, images: Path) -> None:
        self._path, self._images = path, images
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
            name = _find_image(self._images, "", attributes.get("name"), location)
            self.found.append(AnnotatedImage(name, location, size, split))
            self._layers.append([])
        elif self._tags[-2:-1] == ["image"] and tag != "tag":
            location = f"{self.found[-1].location}, {tag} {len(self._layers[-1]) + 1}"
            corners = _cvat_corners(tag, attributes, location)
            layer = _integer({"z_order": "0", **attributes}, "z_order", location)
            self._layers[-1].append((layer, Shape(_label(attributes.get("label"), location), corners, location)))
        elif tag == "track":
            raise DataError(f"{self._path} is an export of a video. Export the task as `CVAT for images 1.1`.")

    def end(self, _tag: str) -> None:
        if self._tags.pop() == "image":
            self.found[-1].shapes = [shape for _, shape in sorted(self._layers[-1], key=itemgetter(0))]

    def text(self, data: str) -> None:
        if self._tags[-3:] == ["labels", "label", "name"]:
            self.labels.append(data)

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


def _cvat_corners(tag: str, attributes: Mapping[str, str], location: str) -> np.ndarray:
    if tag == "polygon":
        pairs = [pair.split(",") for pair in attributes.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise DataError(f"{location} has the points {shorten(attributes.get('points'))}; expected x,y;x,y;...")
        return _points([_float(pair) for pair in pairs], location)
    values = {name: _float(text) for name, text in attributes.items() if name not in ("label", "source")}
    if tag == "box" and _float(attributes.get("rotation", "0")) == 0:
        return _box(values, ("xtl", "ytl", "xbr", "ybr"), location)
    if tag == "ellipse":
        return _ellipse(values, ("cx", "cy", "rx", "ry"), _float(attributes.get("rotation", "0")), location)
    raise _kind_error(tag, location)


def _read_labelme(path: Path, place: str, images: Path) -> AnnotatedImage:
    tree = read_json(path)
    shapes = tree.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(f"{path}: shapes is {shorten(shapes)}; expected Labelme's list of shapes.")
    size = tree.get("imageHeight"), tree.get("imageWidth")
    image = AnnotatedImage(_find_image(images, place, tree.get("imagePath"), str(path)), str(path))
    image.size = None if size == (None, None) else size
    for number, value in enumerate(shapes, 1):
        location = f"{path}, shape {number}"
        entry = require_mapping(value, location)
        kind, points = entry.get("shape_type") or "polygon", _points(entry.get("points"), location)
        if kind == "rectangle" and len(points) == 2:
            corners = _box(dict(zip("abcd", points.ravel().tolist(), strict=True)), ("a", "b", "c", "d"), location)
        elif kind == "circle" and len(points) == 2:
            radius = float(np.hypot(*(points[1] - points[0])))
            center = dict(zip("xy", points[0].tolist(), strict=True))
            corners = _ellipse({**center, "r": radius}, ("x", "y", "r", "r"), 0, location)
        elif kind == "polygon":
            corners = points
        else:
            raise _kind_error(kind, location)
        image.shapes.append(Shape(_label(entry.get("label"), location), corners, location))
    return image


def _read_via(path: Path, images: Path, attribute: str | None) -> Iterator[AnnotatedImage]:
    tree = read_json(path)
    entries = require_mapping(tree.get("_via_img_metadata", tree), str(path))
    for key, value in entries.items():
        location = f"{path}, {shorten(key)}"
        entry = require_mapping(value, location)
        image = AnnotatedImage(_find_image(images, "", entry.get("filename"), location), location)
        regions = entry.get("regions") or []
        for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions, 1):
            place = f"{location}, region {number}"
            parts = require_mapping(region, place)
            shape = require_mapping(parts.get("shape_attributes"), place)
            label = _via_label(require_mapping(parts.get("region_attributes") or {}, place), attribute, place)
            image.shapes.append(Shape(label, _via_corners(shape, place), place))
        yield image


def _via_corners(shape: _Numbers, location: str) -> np.ndarray:
    kind = shape.get("name")
    if kind == "polygon":
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError(f"{location} has no corners; expected all_points_x and all_points_y of one length.")
        return _points(list(map(list, zip(x, y, strict=True))), location)
    if kind == "rect":
        left, top, width, height = _take(shape, ("x", "y", "width", "height"), location)
        return _rectangle(left, top, left + width, top + height)
    if kind == "circle":
        return _ellipse(shape, ("cx", "cy", "r", "r"), 0, location)
    if kind == "ellipse":
        return _ellipse(shape, ("cx", "cy", "rx", "ry"), np.degrees(_float(shape.get("theta", 0))), location)
    raise _kind_error(kind, location)


def _via_label(attributes: _Numbers, attribute: str | None, location: str) -> str:
    """The class of a region: the value of its attribute; of several check boxes, the only one that is set."""
    if attribute is None and len(attributes) != 1:
        raise DataError(
            f"{location} has the attributes {', '.join(attributes) or 'none'}; expected one. Name the attribute that "
            "has the class, by --attribute."
        )
    value = attributes.get(attribute or next(iter(attributes)))
    if isinstance(value, dict) and sum(map(bool, value.values())) == 1:
        value = next(name for name, is_set in value.items() if is_set)
    return _label(value, location)


def _find_image(images: Path, place: str, text: object, location: str) -> str:
    """The name of an image in `images`: relative to `place`, or as the last level of its path, which tools may move."""
    if not isinstance(text, str) or not text:
        raise DataError(f"{location} names no image, but {shorten(text)}.")
    path = text.replace("\\", "/")
    names = posixpath.normpath(posixpath.join(place, path)), posixpath.basename(path)
    for name in names:
        if is_inside_root(name) and (images / name).is_file():
            return validate_image_name(name, location)
    raise DataError(f"{location}: there is no image {shorten(text)} in {images}. Give its folder by --images.")


def _label(value: object, location: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{location} has the label {shorten(value)}; expected the name of a class.")
    return value.strip()


def _kind_error(kind: object, location: str) -> DataError:
    return DataError(
        f"{location} is a {shorten(kind)}, which is not read; expected polygons, boxes, circles or ellipses. Draw its "
        "outline, or remove it."
    )


def _float(value: Any) -> Any:
    """Numbers of texts, also in a list; NaN, which is refused later, for everything else."""
    if isinstance(value, list):
        return [_float(one) for one in value]
    try:
        return float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _points(value: object, location: str) -> np.ndarray:
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise DataError(f"{location} has the points {shorten(value)}; expected pairs of x and y.")
    return np.array(_float(value), np.float64).reshape(-1, 2)


def _take(values: _Numbers, names: Sequence[str], location: str) -> list[float]:
    numbers = [_float(values.get(name)) for name in names]
    if not np.isfinite(numbers).all():
        raise DataError(f"{location} has no numbers for {', '.join(names)}.")
    return numbers


def _integer(attributes: Mapping[str, str], name: str, location: str) -> int:
    (number,) = _take(attributes, (name,), location)
    return int(number)


def _box(values: _Numbers, names: Sequence[str], location: str) -> np.ndarray:
    return _rectangle(*_take(values, names, location))


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def _ellipse(values: _Numbers, names: Sequence[str], degrees: float, location: str) -> np.ndarray:
    """A polygon of the same area. degrees: the rotation, clockwise as y points down."""
    x, y, rx, ry = _take(values, names, location)
    turn, angles = np.radians(degrees), np.arange(_CORNERS) * 2 * np.pi / _CORNERS
    grow = np.sqrt(2 * np.pi / _CORNERS / np.sin(2 * np.pi / _CORNERS))
    across, along = grow * rx * np.cos(angles), grow * ry * np.sin(angles)
    corners = across * np.cos(turn) - along * np.sin(turn), across * np.sin(turn) + along * np.cos(turn)
    moved: np.ndarray = np.add(np.column_stack(corners), (x, y))
    return moved
