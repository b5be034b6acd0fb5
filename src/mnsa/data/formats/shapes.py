"""Shapes of annotation tools, Labelme's JSON per image and VIA's JSON (CVAT's XML: `cvat`). They become masks.

Polygons, boxes, circles, ellipses and brush masks are read; lines and points have no area and are refused. Shapes are
painted in the order of the file (CVAT: of z_order), later ones over earlier ones. Images are copied.
Sources: Labelme 5's LabelFile and `shape_to_mask`, VGG Image Annotator 2's `_via_img_metadata`.
"""

import logging
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnsa.data.decode import open_image_bytes
from mnsa.data.formats.common import DatasetBuilder, listed_size, upright_size
from mnsa.data.formats.mask_encoding import InvalidPolygonError, InvalidRleError, Region, encode_region
from mnsa.data.formats.mask_painter import MaskPainter
from mnsa.data.formats.names import ListedImages, clean_class_name
from mnsa.data.formats.sidecar import BACKGROUND, resolve_mask_classes
from mnsa.data.formats.untrusted import read_json, require_mapping, shorten
from mnsa.data.manifest import Manifest, Row, new_dataset_folder, resolve_inside
from mnsa.data.paths import PassedOver, log_unlisted, scan_images
from mnsa.errors import DataError

logger = logging.getLogger(__name__)

_CORNERS = 128  # of the polygon that stands for an ellipse

_LABELME_POLYGONS = ("polygon", "oriented_rectangle", "rotation", "rectangle")  # the last of four corners

_BACKGROUNDS = (BACKGROUND, "_background_")  # the second is Labelme's

_Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outline:
    """The outline of a shape: corners (N, 2), x and y in pixels.

    is_clipped: what is outside of the image is cut off, if the center is inside. Tools let circles and turned boxes
    leave the image; polygons outside of it belong to another image.
    """

    corners: np.ndarray
    is_clipped: bool = False

    def paint(self, mask: np.ndarray, painter: MaskPainter, value: int) -> None:
        """Set its pixels in a mask, uint8 (H, W). Raises: InvalidPolygonError."""
        painter.polygons(mask, [_clip(self.corners, *mask.shape) if self.is_clipped else self.corners], value)


@dataclass(frozen=True, slots=True)
class BrushMask:
    """Pixels in a box of an image, in pixels. runs: lengths of runs along its rows, background first."""

    left: int
    top: int
    width: int
    height: int
    runs: Sequence[int]

    def paint(self, mask: np.ndarray, painter: MaskPainter, value: int) -> None:
        """Set its pixels in a mask, uint8 (H, W). Raises: InvalidRleError."""
        bottom, right = self.top + self.height, self.left + self.width
        if not (0 <= self.left < right <= mask.shape[1] and 0 <= self.top < bottom <= mask.shape[0]):
            raise InvalidRleError(f"has a box outside the image of {mask.shape[1]} x {mask.shape[0]} px")
        painter.runs(mask[self.top : bottom, self.left : right].T, self.runs, value)


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape: label, its pixels, and where it is in the file, for messages."""

    label: str
    pixels: Outline | BrushMask
    location: str


@dataclass(slots=True)
class AnnotatedImage:
    """An image and its shapes. name: path in the folder of images. size: (H, W) of the annotations, if known.

    tags: of the image as a whole; they are not read.
    """

    name: str
    location: str
    size: tuple[object, object] | None = None
    split: str = "train"
    shapes: list[Shape] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


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
    listed = ListedImages(root)
    found = [_read_labelme(path, path.parent.relative_to(source).as_posix(), listed) for path in paths]
    return write_dataset(source, out, root, found, [], val_fraction, seed)


def import_via(
    source: Path, out: Path, *, images: Path, attribute: str | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Import a project or an export (JSON) of the VGG Image Annotator into the new folder `out`.

    attribute: of the regions, whose value is the class; None: the only one. An error leaves no folder.
    Raises: DataError.
    """
    found = list(_read_via(source, images, attribute))
    return write_dataset(source, out, images, found, [], val_fraction, seed)


def write_dataset(
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
                    shape.pixels.paint(mask, painter, value_of[shape.label])
                except (InvalidPolygonError, InvalidRleError) as error:
                    raise DataError(f"{shape.location} {error}. Correct or remove the annotation.") from None
            builder.add(path, image.name, mask, Row(image.name, split=image.split))
        painter.log_losses(str(source))
        if tagged := [image for image in found if image.tags]:
            logger.warning(
                "%s: tags of %s images are left out, such as %r of %s. `mnsa import csv` reads classes of images.",
                source, len(tagged), tagged[0].tags[0], tagged[0].name,
            )  # fmt: skip
        return builder.finish(out, mask_classes, None, val_fraction, seed)


def _read_labelme(path: Path, place: str, images: ListedImages) -> AnnotatedImage:
    tree = read_json(path)
    shapes = tree.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(
            f"{path}: shapes is {shorten(shapes)}; expected Labelme's list. Remove the file if another tool wrote it."
        )
    image = AnnotatedImage(images.find(tree.get("imagePath"), str(path), place=place), str(path))
    image.size = listed_size(tree.get("imageHeight"), tree.get("imageWidth"))
    flags = tree.get("flags")
    image.tags = [name for name, is_set in flags.items() if is_set is True] if isinstance(flags, dict) else []
    for number, value in enumerate(shapes, 1):
        location = f"{path}, shape {number}"
        entry = require_mapping(value, location)
        kind, points = entry.get("shape_type") or "polygon", parse_points(entry.get("points"), location)
        pixels: Outline | BrushMask
        if kind == "rectangle" and len(points) == 2:
            pixels = box(*points.ravel(), location=location)
        elif kind == "circle" and len(points) == 2:
            (x, y), radius = points[0].tolist(), float(np.hypot(*(points[1] - points[0])))
            pixels = ellipse(x, y, radius, radius, location=location)
        elif kind == "mask" and len(points) == 2:
            pixels = _labelme_mask(entry.get("mask"), points, location)
        elif kind in _LABELME_POLYGONS:
            pixels = Outline(points, is_clipped=kind != "polygon")
        else:
            raise kind_error(kind, location)
        image.shapes.append(Shape(clean_class_name(entry.get("label"), location), pixels, location))
    return image


def _labelme_mask(text: object, points: np.ndarray, location: str) -> BrushMask:
    """Read the PNG of a mask that lies in the box of two points."""
    try:
        data = b64decode(text if isinstance(text, str) else "", validate=True)
    except ValueError:
        raise DataError(f"{location} has a mask that is not base64. Save the file again with Labelme.") from None
    with open_image_bytes(data, f"{location}: its mask") as image:
        inside = np.asarray(image.convert("1"))
    left, top, *_ = _finite(points.ravel().tolist(), "points", location)
    return BrushMask(int(left), int(top), inside.shape[1], inside.shape[0], row_runs(inside))


def _read_via(path: Path, images: Path, attribute: str | None) -> Iterator[AnnotatedImage]:
    tree = read_json(path)
    entries = require_mapping(tree.get("_via_img_metadata", tree), str(path))
    if not any(isinstance(entry, dict) and "filename" in entry for entry in entries.values()):
        raise DataError(f"{path} is no project or export (JSON) of VIA 2: no entry has a filename. Export it as JSON.")
    listed = ListedImages(images)
    for key, value in entries.items():
        location = f"{path}, {shorten(key)}"
        entry = require_mapping(value, location)
        image = AnnotatedImage(listed.find(entry.get("filename"), location), location)
        regions = entry.get("regions") or []
        for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions, 1):
            place = f"{location}, region {number}"
            parts = require_mapping(region, place)
            shape = require_mapping(parts.get("shape_attributes"), place)
            label = _via_label(require_mapping(parts.get("region_attributes") or {}, place), attribute, place)
            image.shapes.append(Shape(label, _via_outline(shape, place), place))
        yield image


def _via_outline(shape: _Numbers, location: str) -> Outline:
    kind = shape.get("name")
    if kind == "polygon":
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError(f"{location} has no corners; expected all_points_x and all_points_y of one length.")
        return Outline(parse_points(list(map(list, zip(x, y, strict=True))), location))
    if kind == "rect":
        left, top, width, height = take_numbers(shape, ("x", "y", "width", "height"), location)
        return box(left, top, left + width, top + height, location=location)
    if kind == "circle":
        x, y, radius = take_numbers(shape, ("cx", "cy", "r"), location)
        return ellipse(x, y, radius, radius, location=location)
    if kind == "ellipse":
        x, y, rx, ry, turn = take_numbers({"theta": 0, **shape}, ("cx", "cy", "rx", "ry", "theta"), location)
        return ellipse(x, y, rx, ry, np.degrees(turn), location=location)
    raise kind_error(kind, location)


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
    return clean_class_name(value, location)


def kind_error(kind: object, location: str) -> DataError:
    """The error for a kind of shape that has no area."""
    return DataError(
        f"{location} is a {shorten(kind)}, which is not read; expected polygons, boxes, circles, ellipses or brush "
        "masks. Draw its outline, or remove it."
    )


def parse_float(value: Any) -> Any:
    """Numbers of texts, also in a list; NaN, which is refused later, for everything else."""
    if isinstance(value, list):
        return [parse_float(one) for one in value]
    try:
        return float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def parse_points(value: object, location: str) -> np.ndarray:
    """Points (N, 2) of a list of pairs. Raises: DataError."""
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise DataError(f"{location} has the points {shorten(value)}; expected pairs of x and y.")
    return np.array(parse_float(value), np.float64).reshape(-1, 2)


def take_numbers(values: _Numbers, names: Sequence[str], location: str) -> list[float]:
    """The numbers of these names. Raises: DataError where one is missing or not finite."""
    numbers = [parse_float(values.get(name)) for name in names]
    if not np.isfinite(numbers).all():
        raise DataError(f"{location} has no numbers for {', '.join(names)}.")
    return numbers


def box(x1: float, y1: float, x2: float, y2: float, degrees: float = 0, *, location: str) -> Outline:
    """A box, turned around its center. degrees: clockwise, as y points down."""
    x1, y1, x2, y2, degrees = _finite((x1, y1, x2, y2, degrees), "a box", location)
    half = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) * ((x2 - x1) / 2, (y2 - y1) / 2)
    return Outline(np.add(_turn(half, degrees), ((x1 + x2) / 2, (y1 + y2) / 2)), is_clipped=True)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0, *, location: str) -> Outline:
    """A polygon of the area of an ellipse with the center x, y and the radii rx, ry. degrees: as for `box`."""
    x, y, rx, ry, degrees = _finite((x, y, rx, ry, degrees), "an ellipse", location)
    angles = np.arange(_CORNERS) * 2 * np.pi / _CORNERS
    grow = np.sqrt(2 * np.pi / _CORNERS / np.sin(2 * np.pi / _CORNERS))
    corners = np.column_stack((grow * rx * np.cos(angles), grow * ry * np.sin(angles)))
    return Outline(np.add(_turn(corners, degrees), (x, y)), is_clipped=True)


def row_runs(inside: np.ndarray) -> list[int]:
    """The lengths of runs along the rows of a mask, bool (H, W), background first."""
    height, width = inside.shape
    return encode_region(Region(1, 0, 0, inside.T), width, height) if inside.any() else [inside.size]


def _turn(corners: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned: np.ndarray = corners @ np.array(((cos, sin), (-sin, cos)))
    return turned


def _finite(numbers: Sequence[float], what: str, location: str) -> Sequence[float]:
    if not np.isfinite(numbers).all():
        raise DataError(f"{location} has {what} with coordinates that are no numbers. Draw it again, or remove it.")
    return numbers


def _clip(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut a convex polygon (N, 2) at the border of an image (Sutherland and Hodgman), if its center is in the image."""
    x, y = corners.mean(0)
    if not (-1 <= x <= width + 1 and -1 <= y <= height + 1):
        return corners
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        depth = sign * (corners[:, axis] - limit)  # at least 0 inside
        kept: list[np.ndarray] = []
        for start, end, a, b in zip(corners, np.roll(corners, -1, 0), depth, np.roll(depth, -1), strict=True):
            kept += [start] if a >= 0 else []
            kept += [start + (end - start) * a / (a - b)] if (a < 0) != (b < 0) else []
        corners = np.array(kept)
    return corners
