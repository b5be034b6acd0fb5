"""An image folder and a mask folder, by split or flat; mnsa.json beside them holds further metadata."""

import os
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mnsa.data.formats.common import (
    SPLIT_ALIASES,
    NamedRow,
    build_manifest,
    build_masked_manifest,
    export_by_split,
    write_json,
)
from mnsa.data.formats.sidecar import SIDECAR_FILE, build_sidecar, foreground_names, parse_sidecar, resolve_mask_classes
from mnsa.data.formats.untrusted import read_json
from mnsa.data.manifest import Manifest, Row
from mnsa.data.paths import IMAGE_SUFFIXES, MASK_SUFFIXES, casefold_name, compose, list_images_to_import
from mnsa.errors import DataError

# What the name of a mask may add to that of its image, in any case; the last ones are those of CHASE_DB1 and DRIVE.
ENDINGS = (
    "_mask", "-mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_annotation",
    "_1stho", "_2ndho", "_manual1",
)  # fmt: skip

_SPLIT_ENDINGS = ("_training", "_test")  # DRIVE's 21_manual1.gif is the mask of 21_training.tif

_Key = tuple[str, str]  # the folder of a mask or image, and its stem

_UNUSED = "unused"  # rows without a split, as mnsa writes them


def import_masks(
    images: Path,
    masks: Path,
    *,
    mask_classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    seed: int = 1,
) -> Manifest:
    """Import `images`/[split/]NAME.jpg and `masks`/[split/]NAME.png or NAME_mask.png; no file is changed.

    Masks may be GIF files, too.
    Images may lack a mask. mask_classes: names in order of pixel value; None infers them.
    Raises: DataError with the file that doesn't fit.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder. Give the folder of images, then the folder of masks.")
    root = _common_root(images, masks)
    image_paths = _list_images(images)
    masks_by_stem = _MaskMatcher(masks, image_paths)
    _require_consistent_splits(image_paths, images)
    sidecar_file = images.resolve().parent / SIDECAR_FILE
    sidecar = parse_sidecar(read_json(sidecar_file), str(sidecar_file)) if sidecar_file.exists() else None
    rows = []
    for path in image_paths:
        mask = masks_by_stem.take(path)
        row = Row(
            _relative_to_root(root, images, path),
            _relative_to_root(root, masks, mask) if mask else "",
            split=_split_of_path(path, images),
        )
        rows.append(sidecar.complete_row(path.as_posix(), row) if sidecar else row)
    if masks_by_stem.unmatched:
        raise DataError(
            f"{masks / next(iter(masks_by_stem.unmatched.values()))} is the mask of no image in {images}. "
            "Add the image, or remove the mask."
        )
    if not any(row.mask for row in rows):
        raise DataError(f"No mask in {masks} has the name of an image in {images}; expected NAME.png or NAME_mask.png.")
    if sidecar:
        named = resolve_mask_classes(mask_classes or foreground_names(sidecar.mask_classes), sidecar, str(masks))
        return build_masked_manifest(root.name, root, rows, named, sidecar, val_fraction, seed)
    if not any(row.split for row in rows):
        rows = [replace(row, split="train") for row in rows]
    return build_manifest(root, rows, mask_classes, val_fraction, seed)


class _MaskMatcher:
    """Mask files by folder and stem. A mask belongs to one image only."""

    def __init__(self, masks: Path, images: Sequence[PurePosixPath]) -> None:
        self._folder = masks
        self._folded: defaultdict[_Key, list[_Key]] | None = None
        self._images = {(_place(path), compose(path.stem)) for path in images}
        self.unmatched = {(_place(path), compose(path.stem)): path for path in _list_images(masks, MASK_SUFFIXES)}
        self._with_ending: defaultdict[_Key, list[_Key]] = defaultdict(list)  # without the ending -> with it
        for place, stem in self.unmatched:
            for ending in ENDINGS:
                if stem.lower().endswith(ending):
                    self._with_ending[place, stem[: -len(ending)]].append((place, stem))

    def take(self, image: PurePosixPath) -> PurePosixPath | None:
        """Remove and return the mask of an image: its stem, or its stem with an ending that is not another image's."""
        own = place, stem = _place(image), compose(image.stem)
        number = next((stem.removesuffix(one) for one in _SPLIT_ENDINGS if stem.endswith(one)), None)
        keys = self._with_ending[own] + ([] if number is None else self._with_ending[place, number])
        keys = [own, (place, compose(image.name)), *keys]  # the second: a.jpg.png is the mask of a.jpg
        keys_found = [key for key in keys if key in self.unmatched and (key == own or key not in self._images)]
        keys_found = keys_found or self._find_in_another_case(own)
        if len(keys_found) > 1:
            first, second = (self.unmatched[key] for key in keys_found[:2])
            raise DataError(f"{self._folder}: {first} and {second} belong to the same image. Keep one of them.")
        return self.unmatched.pop(keys_found[0]) if keys_found else None

    def _find_in_another_case(self, own: _Key) -> list[_Key]:
        """The mask of an image's name in upper or lower case, unless that of another image fits as well."""
        folded = own[0], casefold_name(own[1])
        if self._folded is None:
            self._folded = defaultdict(list)
            for key in (*self._images, *self.unmatched):
                self._folded[key[0], casefold_name(key[1])].append(key)
        others = [key for key in self._folded[folded] if key != own]
        return others if len(others) == 1 and others[0] in self.unmatched and others[0] not in self._images else []


def write_mask_folders(manifest: Manifest, entries: list[NamedRow], folder: Path) -> None:
    """Write a data set into an existing folder. Masks are gray PNGs: 0/255 for one class, else class indices."""
    scale = np.uint8(255 if len(manifest.mask_classes) == 1 else 1)

    def write(mask: np.ndarray, path: Path) -> None:
        Image.fromarray(mask * scale).save(f"{path}.png")

    name_of = export_by_split(manifest, entries, folder, "masks", write)
    write_json(build_sidecar(manifest, name_of), folder / SIDECAR_FILE)


def _common_root(images: Path, masks: Path) -> Path:
    root = Path(os.path.commonpath((images.resolve(), masks.resolve())))
    if root == Path(root.anchor):
        raise DataError(f"{images} and {masks} have no common folder. Move both into one folder.")
    return root


def _list_images(folder: Path, suffixes: Set[str] = IMAGE_SUFFIXES) -> list[PurePosixPath]:
    found = list_images_to_import(folder, suffixes=suffixes)
    places: dict[tuple[str, str], PurePosixPath] = {}
    for path in found:
        if (other := places.setdefault((_place(path), path.stem), path)) != path:
            raise DataError(f"{folder}: {other} and {path} have the same stem, so their masks do as well. Rename one.")
    return found


def _require_consistent_splits(image_paths: Sequence[PurePosixPath], images: Path) -> None:
    """Reject images beside split folders, as they have no split. Raises: DataError."""
    stray = next((path for path in image_paths if len(path.parts) == 1), None)
    if stray and any(len(path.parts) > 1 for path in image_paths):
        raise DataError(f"{images} has train/val/test folders, but {stray} lies in none. Move it into one.")


def _place(path: PurePosixPath) -> str:
    """The folder of a path; that of a split by the split's name, so `Train` and `training` are the same."""
    folder = path.parent.as_posix().lower()
    return SPLIT_ALIASES.get(folder, folder)


def _split_of_path(path: PurePosixPath, images: Path) -> str:
    if _place(path) in (".", _UNUSED):
        return ""
    if len(path.parts) > 2 or path.parts[0].lower() not in SPLIT_ALIASES:
        raise DataError(
            f"{images / path}: expected train, val or test as the only level. "
            "Use `mnsa import folders` for class folders."
        )
    return SPLIT_ALIASES[path.parts[0].lower()]


def _relative_to_root(root: Path, folder: Path, path: PurePosixPath) -> str:
    return (folder.resolve().relative_to(root) / path).as_posix()
