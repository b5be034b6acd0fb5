"""Functions of several formats: image files, names of splits and classes, new data sets, and file names for export.

H, W image size in pixels.
"""

import json
import logging
import posixpath
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.decode import (
    bad_file_error,
    open_image,
    read_mask_indices,
    read_pixels,
    two_value_error,
    unique_mask_values,
)
from mnsa.data.formats.sidecar import Sidecar
from mnsa.data.manifest import Manifest, Row, write_manifest_files
from mnsa.data.paths import IMAGE_SUFFIXES, casefold_name, missing_package_hint
from mnsa.data.rows import is_empty_word, is_layout_word, validate_path
from mnsa.data.splits import hold_out_validation
from mnsa.errors import DataError
from mnsa.io import atomic_write_text
from mnsa.visualize.palette import write_mask

logger = logging.getLogger(__name__)

SPLIT_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

MAX_INFERRED_CLASSES = 32  # mask values above this are gray levels, not classes

_EXIF_ORIENTATION = 0x0112  # EXIF: 1 upright, 5 to 8 swap width and height


def validate_image_name(text: object, location: str) -> str:
    """Normalize the path of an image. Raises: DataError, with `location`, when it is no image inside the root."""
    if not isinstance(text, str) or any(ord(char) < 32 for char in text):
        raise DataError(f"{location}: the image's name must be text on one line, got {ascii(text)[:80]}.")
    path = posixpath.normpath(validate_path(text, location, "image"))
    if (suffix := posixpath.splitext(path)[1].lower()) not in IMAGE_SUFFIXES:
        raise DataError(
            f"{location}: {path!r} is no image that can be read; expected {', '.join(sorted(IMAGE_SUFFIXES))}."
            f"{missing_package_hint(suffix)}"
        )
    return path


def upright_size(path: Path) -> tuple[int, int]:
    """Read the upright size (H, W) of an image; no pixels are decoded. Raises: BadFileError."""
    with open_image(path) as image:
        swapped = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if swapped else (image.height, image.width)


def listed_size(height: object, width: object) -> tuple[object, object] | None:
    """The size (H, W) that annotations are for; None where the tool wrote none, or 0. Text is read as a number."""
    sides = [int(side) if isinstance(side, str) and side.isdecimal() else side for side in (height, width)]
    return None if any(side in (None, 0) for side in sides) else (sides[0], sides[1])


def is_turned(path: Path) -> bool:
    """Whether EXIF swaps width and height of an image. Raises: BadFileError."""
    with open_image(path) as image:
        return image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)


def copy_upright(source: Path, folder: Path, stem: str) -> str:
    """Copy an image and return its new file name. An image with an EXIF orientation is written upright, as PNG.

    Other tools ignore the orientation, or apply it to the image and not to the mask. HEIC, which few of them read,
    becomes PNG too. stem: of the new file name.
    """
    with open_image(source) as image:
        is_portable = image.getexif().get(_EXIF_ORIENTATION, 1) == 1 and image.format != "HEIF"
    if not is_portable:
        return write_png(source, folder, stem)
    name = stem + source.suffix.lower()
    shutil.copyfile(source, folder / name)
    return name


def write_png(source: Path, folder: Path, stem: str) -> str:
    """Write the upright RGB pixels of an image as PNG; return the file name."""
    Image.fromarray(read_pixels(source)).save(folder / f"{stem}.png")
    return f"{stem}.png"


def build_manifest(
    root: Path, rows: Sequence[Row], mask_classes: Sequence[str] | None, val_fraction: float, seed: int
) -> Manifest:
    """Build a manifest from rows: sorted classes, mask classes from the pixels unless given, val held out if missing.

    Raises: DataError when there are no images, mask classes without masks, or mask values that are no class indices.
    """
    if not rows:
        raise DataError(f"{root} holds no images that can be imported; expected .jpg, .png, .tif, .webp or .bmp files.")
    if not any(row.split == "val" for row in rows):
        rows = hold_out_validation(rows, fraction=val_fraction, seed=seed)
    root = root.resolve()
    classes = _sort_labels({row.label for row in rows if row.label})
    if suspicious := [name for name in classes if is_layout_word(name)]:
        logger.warning("The classes have names of splits or of masks: %s. Are they classes?", ", ".join(suspicious))
    if empty := [name for name in classes if is_empty_word(name)]:
        logger.warning("The classes have names of empty cells: %s. Leave such labels empty.", ", ".join(empty))
    log_similar_names(classes)
    manifest = Manifest(root.name, root, classes, tuple(mask_classes or ()), tuple(rows))
    masks = [manifest.mask_path(row) for row in rows if row.mask]
    if manifest.mask_classes and not masks:
        raise DataError(f"Mask classes are named ({', '.join(manifest.mask_classes)}), but no image has a mask.")
    return manifest if manifest.mask_classes else replace(manifest, mask_classes=_infer_mask_classes(masks))


def log_similar_names(classes: Iterable[str]) -> None:
    """Log a warning for classes that differ only in upper and lower case."""
    first: dict[str, str] = {}
    for name in classes:
        if (other := first.setdefault(casefold_name(name), name)) != name:
            logger.warning("The classes %r and %r differ only in case. Rename one if they are the same.", other, name)


@dataclass
class DatasetBuilder:
    """Builds a data set image by image. folder: the new data set. rows: the images added so far."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def add(self, source: Path, name: str, mask: np.ndarray | None, row: Row) -> None:
        """Copy an image to images/`name`, write its mask (H, W) if any, and add a row. row: the other cells."""
        shutil.copyfile(source, self._image_path(name))
        self._add_row(name, mask, row)

    def add_pixels(self, pixels: np.ndarray, name: str, mask: np.ndarray | None, row: Row) -> None:
        """Like `add`, for an image in memory: uint8 (H, W, 3)."""
        Image.fromarray(pixels).save(self._image_path(name))
        self._add_row(name, mask, row)

    def finish(
        self, out: Path, mask_classes: Sequence[str], sidecar: Sidecar | None, val_fraction: float, seed: int
    ) -> Manifest:
        """Write manifest.csv and dataset.toml. Without a sidecar, val is held out if it is missing."""
        manifest = build_masked_manifest(out.name, self.folder, self.rows, mask_classes, sidecar, val_fraction, seed)
        write_manifest_files(manifest, self.folder)
        return replace(manifest, root=out.resolve())

    def _image_path(self, name: str) -> Path:
        path = self.folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _add_row(self, name: str, mask: np.ndarray | None, row: Row) -> None:
        row = replace(row, image=f"images/{name}")
        if mask is not None:
            row = replace(row, mask=self._mask_name(name))
            path = self.folder / row.mask
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(mask, path)
        self.rows.append(row)

    def _mask_name(self, image: str) -> str:
        """Make the name of a mask from that of its image: a.png, or a.jpg.png if a.png is already used."""
        short = f"masks/{PurePosixPath(image).with_suffix('.png')}"
        name = f"masks/{image}.png" if casefold_name(short) in self._taken else short
        self._taken.add(casefold_name(name))
        return name


def build_masked_manifest(
    name: str,
    root: Path,
    rows: Sequence[Row],
    mask_classes: Sequence[str],
    sidecar: Sidecar | None,
    val_fraction: float,
    seed: int,
) -> Manifest:
    """Build a manifest of rows with masks. Raises: DataError when there are no rows."""
    if not rows:
        raise DataError(f"{root if name == root.name else name}: there are no images to import.")
    log_similar_names(mask_classes)
    if sidecar is None and not any(row.split == "val" for row in rows):
        rows = hold_out_validation(rows, fraction=val_fraction, seed=seed)
    classes = sidecar.classes if sidecar else ()
    return Manifest(sidecar.name if sidecar else name, root.resolve(), classes, tuple(mask_classes), tuple(rows))


class NamedRow(NamedTuple):
    """A row and the stem of its exported files. Stems also differ when case is ignored."""

    row: Row
    stem: str


def name_rows(manifest: Manifest) -> list[NamedRow]:
    """Give each image its own stem, or its whole path if another image has the same stem."""
    stems = Counter(casefold_name(_safe_stem(PurePosixPath(row.image).stem)) for row in manifest.rows)
    taken: set[str] = set()
    entries = []
    for row in manifest.rows:
        path = PurePosixPath(row.image)
        stem = _safe_stem(path.stem)
        if stems[casefold_name(stem)] > 1:
            stem = _safe_stem("_".join(part for part in path.with_suffix("").parts))
        while casefold_name(stem) in taken:
            stem += "_"
        taken.add(casefold_name(stem))
        entries.append(NamedRow(row, stem))
    return entries


def read_row_mask(manifest: Manifest, row: Row) -> np.ndarray | None:
    """Read a row's mask: class indices, uint8 (H, W). Raises: DataError when image and mask differ in size."""
    if not row.mask:
        return None
    path = manifest.mask_path(row)
    mask = read_mask_indices(path, len(manifest.mask_classes))
    if mask.shape != (expected := upright_size(manifest.image_path(row))):
        sizes = f"has {mask.shape[1]} x {mask.shape[0]} pixels, but its image has {expected[1]} x {expected[0]}"
        raise bad_file_error(path, "mask-size", sizes, "Create the mask again at the size of the image")
    return mask


def export_by_split(
    manifest: Manifest, entries: Sequence[NamedRow], folder: Path, masks: str, write: Callable[[np.ndarray, Path], None]
) -> dict[str, str]:
    """Copy each image to images/SPLIT, and write its mask by `write(mask, path without suffix)` to MASKS/SPLIT.

    Rows of no split are in `unused`. Returns: SPLIT/NAME of each copied image, by the image in the manifest.
    """
    name_of = {}
    for row, stem in entries:
        place = row.split or "unused"
        for kind in ("images", masks):
            (folder / kind / place).mkdir(parents=True, exist_ok=True)
        name_of[row.image] = f"{place}/{copy_upright(manifest.image_path(row), folder / 'images' / place, stem)}"
        mask = read_row_mask(manifest, row)
        if mask is not None:
            write(mask, folder / masks / place / stem)
    return name_of


def write_json(tree: Any, path: Path) -> None:
    """Write a value as JSON in ASCII, without NaN, which other tools can't read."""
    atomic_write_text(path, json.dumps(tree, ensure_ascii=True, allow_nan=False))


def _sort_labels(labels: Set[str]) -> tuple[str, ...]:
    """Sort integers by value, so that 1, 2, ..., 10 have the indices 0, 1, ..., 9, and other labels as text."""
    if all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (len(label.lstrip("0")), label.lstrip("0"), label)))
    return tuple(sorted(labels))


def _infer_mask_classes(masks: Sequence[Path]) -> tuple[str, ...]:
    """Make class names from the pixel values of all masks: one for 0/1 or 0/255, else one for each of 0..max."""
    if not masks:
        return ()
    with ThreadPoolExecutor() as pool:
        values_of = dict(zip(masks, pool.map(unique_mask_values, masks), strict=True))
    values = frozenset[int]().union(*values_of.values())
    if values <= {0, 1} or values <= {0, 255}:
        return ("foreground",)
    for path, found in values_of.items():
        if max(values) >= MAX_INFERRED_CLASSES and (error := two_value_error(path, found)):
            raise error
    largest = max(values)
    if largest >= MAX_INFERRED_CLASSES:
        culprit = next(path for path, found in values_of.items() if largest in found)
        raise DataError(
            f"Mask {culprit} has the pixel value {largest}, so the masks hold gray levels rather than class indices. "
            "Save them as 0/255, or as PNG with the values 0, 1, 2, ..."
        )
    return ("background", *(f"class{index}" for index in range(1, largest + 1)))


def _safe_stem(stem: str) -> str:
    """Replace characters that other tools can't read in file names, such as spaces."""
    return "".join(char if char.isalnum() or char in "-_.+()" else "_" for char in stem).strip(".") or "_"
