"""Class folders: [SPLIT/]CLASS/image, with or without a folder of masks."""

import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path, PurePosixPath

from mnsa.data.formats.common import SPLIT_ALIASES, build_manifest
from mnsa.data.formats.mask_folders import ENDINGS
from mnsa.data.formats.names import clean_class_name
from mnsa.data.manifest import Manifest, Row
from mnsa.data.paths import PassedOver, compose, log_passed_over, scan_images
from mnsa.data.rows import is_layout_word
from mnsa.errors import DataError

logger = logging.getLogger(__name__)

MASK_FOLDERS = frozenset({"masks", "mask", "annotations", "labels"})  # in any case, like all words of the layout
IMAGE_FOLDERS = frozenset({"images"})  # a level without meaning: skipped


def import_folders(
    source: Path, *, mask_classes: Sequence[str] | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Import `[split/]class/image`, and masks of the same stem under masks/, mirrored or flat.

    The folder of masks may also be called mask, annotations or labels. Case of these words and of splits is ignored.
    Masks beside their images are called NAME_mask.png, or by another of ENDINGS.
    mask_classes: names in order of pixel value; None infers them. Raises: DataError with the file that doesn't fit.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder. Give the folder that holds the class folders.")
    visible = scan_images(source, passed := PassedOver(), text_names=True)
    if not visible:
        found = f" {passed.describe()}".rstrip()
        raise DataError(f"{source} holds no images that can be imported.{found} Expected class/image.jpg.")
    log_passed_over(source, passed)
    beside = _masks_beside(visible)
    masks = _MaskMatcher([path for path in visible if _has_mask_folder(path)])
    masks_beside = set(beside.values())
    images = [path for path in visible if not _has_mask_folder(path) and path not in masks_beside]
    rows = [_image_row(path, masks, beside.get(path)) for path in images]
    if unused := masks.unused():
        logger.warning("%s: %s masks have no image, such as %s", source, len(unused), unused[0])
    _require_consistent_splits(rows, source)
    if all(not row.split for row in rows):
        rows = [Row(row.image, row.mask, row.label, split="train") for row in rows]
    return build_manifest(source, rows, mask_classes, val_fraction, seed)


class _MaskMatcher:
    """Mask files by the folder levels and the stem of their image. A mask belongs to one image only."""

    def __init__(self, paths: Sequence[PurePosixPath]) -> None:
        self._by_place: dict[tuple[str, ...], PurePosixPath] = {}
        self._owner: dict[PurePosixPath, PurePosixPath] = {}
        for path in paths:
            split, below = _split_levels(path, MASK_FOLDERS | IMAGE_FOLDERS)
            other = self._by_place.setdefault((*split, *below, compose(path.stem)), path)
            if other != path:
                raise DataError(f"The masks {other} and {path} belong to the same image. Keep one of them.")
        for place, path in [*self._by_place.items()]:  # NAME_mask.png, if there is no NAME.png
            for ending in _endings_of(place[-1]):
                self._by_place.setdefault((*place[:-1], place[-1][: -len(ending)]), path)

    def unused(self) -> list[PurePosixPath]:
        """The masks that no image has asked for."""
        return [mask for mask in dict.fromkeys(self._by_place.values()) if mask not in self._owner]

    def find(self, image: PurePosixPath, split: tuple[str, ...], below: tuple[str, ...]) -> str:
        """Find the mask of an image. Search order: same split and class, same class, same split, flat."""
        places = ((*split, *below), below, split, ())
        stems = compose(image.stem), compose(image.name)  # a.jpg.png is the mask of a.jpg
        for place, stem in product(places, stems):
            mask = self._by_place.get((*place, stem))
            if mask is None:
                continue
            owner = self._owner.setdefault(mask, image)
            if owner != image:
                raise DataError(
                    f"Mask {mask} fits both {owner} and {image}. Use the same folders for the masks as for the images."
                )
            return str(mask)
        return ""


def _masks_beside(paths: Sequence[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """Find the masks that lie beside their image, as NAME_mask.png, by image. Raises: DataError for a second mask."""
    images = {(path.parent, compose(path.stem)): path for path in paths if not _has_mask_folder(path)}
    found: dict[PurePosixPath, PurePosixPath] = {}
    for (folder, stem), path in images.items():
        plain = stem.rstrip("0123456789").rstrip("_-")  # NAME_mask_1.png is a second mask
        owners = (images.get((folder, text[: -len(end)])) for text in (stem, plain) for end in _endings_of(text))
        if (image := next(filter(None, owners), None)) is not None and found.setdefault(image, path) != path:
            raise DataError(f"{found[image]} and {path} are masks of the same image. Merge them, or keep one.")
    return found


def _endings_of(stem: str) -> list[str]:
    return [ending for ending in ENDINGS if stem.lower().endswith(ending)]


def _has_mask_folder(path: PurePosixPath) -> bool:
    return any(part.lower() in MASK_FOLDERS for part in path.parts[:-1])


def _split_levels(path: PurePosixPath, meaningless: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Get the split of a path, if any, and the other folder levels, without those that are `meaningless`."""
    levels = tuple(compose(part) for part in path.parts[:-1] if part.lower() not in meaningless)
    if levels and (split := SPLIT_ALIASES.get(levels[0].lower())):
        return (split,), levels[1:]
    return (), levels


def _image_row(image: PurePosixPath, masks: _MaskMatcher, beside: PurePosixPath | None) -> Row:
    split, below = _split_levels(image, IMAGE_FOLDERS)
    if len(below) > 1:
        raise DataError(
            f"{image} lies {len(split) + len(below)} folders deep; expected class/image or split/class/image. "
            "Import the folder that has the classes, or list the images in a table: mnsa import csv."
        )
    if below and is_layout_word(below[0]):
        raise DataError(
            f"{image}: {below[0]!r} would be a class, but it is a word for a split or for masks. "
            "Expected class/image or split/class/image. Rename the folder if it is a class; `mnsa import masks` reads "
            "a folder of images and a folder of masks."
        )
    mask = masks.find(image, split, below) or str(beside or "")
    if not below and not mask:
        raise DataError(
            f"{image} lies in no class folder and has no mask. Move it into a class folder, or away. Images and masks "
            "in two folders, without classes: mnsa import masks."
        )
    return Row(str(image), mask, label=clean_class_name(below[0], str(image)) if below else "", split="".join(split))


def _require_consistent_splits(rows: Sequence[Row], source: Path) -> None:
    """Reject class folders beside split folders, as their images have no split. Raises: DataError."""
    stray = next((row for row in rows if not row.split), None)
    if stray and any(row.split for row in rows):
        raise DataError(f"{source} has train/val/test folders, but {stray.image} lies in none. Move it into one.")
