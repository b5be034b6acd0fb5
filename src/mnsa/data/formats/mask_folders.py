"""A folder of images and a folder of masks, matched by their stems; with or without train/val/test below both."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from mnsa.data.decoding import SUFFIXES
from mnsa.data.importers.common import SPLIT_NAMES, assemble
from mnsa.data.importers.painted import described
from mnsa.data.layouts.careful import read_json
from mnsa.data.layouts.classes import foreground, mask_classes_of
from mnsa.data.layouts.facts import FILE, parse_facts
from mnsa.data.manifest import Manifest, Row
from mnsa.errors import DataError

ENDINGS = ("_mask", "-mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_annotation")
_UNUSED = "unused"  # rows without a split, as mnsa writes them


def import_masks(
    images: Path,
    masks: Path,
    *,
    mask_classes: Sequence[str] | None = None,
    validation_share: float = 0.2,
    seed: int = 1,
) -> Manifest:
    """Read `images`/[split/]NAME.jpg and `masks`/[split/]NAME.png or NAME_mask.png; no file is touched.

    Images without a mask are listed without one. mask_classes: names in order of pixel value; None infers them.
    Raises: DataError naming the file that doesn't fit.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder. Give the folder of images, then the folder of masks.")
    root = _common_root(images, masks)
    pictures = _pictures(images)
    mask_of = _Masks(masks, pictures)
    _require_one_layout(pictures, images)
    facts_file = images.resolve().parent / FILE
    facts = parse_facts(read_json(facts_file), str(facts_file)) if facts_file.exists() else None
    rows = []
    for path in pictures:
        mask = mask_of.take(path)
        row = Row(_below(root, images, path), _below(root, masks, mask) if mask else "", split=_split(path, images))
        rows.append(facts.row(path.as_posix(), row) if facts else row)
    if mask_of.left:
        raise DataError(
            f"{masks / next(iter(mask_of.left.values()))} is the mask of no image in {images}. "
            "Add the image, or take the mask out."
        )
    if not any(row.mask for row in rows):
        raise DataError(f"No mask in {masks} has the name of an image in {images}; expected NAME.png or NAME_mask.png.")
    if facts:
        named = mask_classes_of(mask_classes or foreground(facts.mask_classes), facts, str(masks))
        return described(root.name, root, rows, named, facts, validation_share, seed)
    if not any(row.split for row in rows):
        rows = [replace(row, split="train") for row in rows]
    return assemble(root, rows, mask_classes, validation_share, seed)


def _common_root(images: Path, masks: Path) -> Path:
    root = Path(os.path.commonpath((images.resolve(), masks.resolve())))
    if root == Path(root.anchor):
        raise DataError(f"{images} and {masks} share no folder. Put both below one.")
    return root


def _pictures(folder: Path) -> list[PurePosixPath]:
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    found = [PurePosixPath(path.as_posix()) for path in paths if not any(part.startswith(".") for part in path.parts)]
    places: dict[tuple[PurePosixPath, str], PurePosixPath] = {}
    for path in found:
        if (other := places.setdefault((path.parent, path.stem), path)) != path:
            raise DataError(f"{folder}: {other} and {path} have the same stem, so their masks do as well. Rename one.")
    return found


class _Masks:
    """Mask files by folder and stem; each is given to one image only."""

    def __init__(self, masks: Path, images: Sequence[PurePosixPath]) -> None:
        self._folder = masks
        self._images = {(path.parent, path.stem) for path in images}
        self.left = {(path.parent, path.stem): path for path in _pictures(masks)}

    def take(self, image: PurePosixPath) -> PurePosixPath | None:
        """Find the mask of an image: of its very stem, or with an ending, unless it is then that of another image."""
        keys = [(image.parent, image.stem), *((image.parent, image.stem + ending) for ending in ENDINGS)]
        fitting = [key for key in keys if key in self.left and (key == keys[0] or key not in self._images)]
        if len(fitting) > 1:
            first, second = (self.left[key] for key in fitting[:2])
            raise DataError(f"{self._folder}: {first} and {second} belong to the same image. Keep one of them.")
        return self.left.pop(fitting[0]) if fitting else None


def _require_one_layout(pictures: Sequence[PurePosixPath], images: Path) -> None:
    """Refuse images beside split folders: nobody can say to which split they belong."""
    stray = next((path for path in pictures if len(path.parts) == 1), None)
    if stray and any(len(path.parts) > 1 for path in pictures):
        raise DataError(f"{images} has train/val/test folders, but {stray} lies in none. Move it into one.")


def _split(path: PurePosixPath, images: Path) -> str:
    if path.parts[:-1] in ((), (_UNUSED,)):
        return ""
    if len(path.parts) > 2 or path.parts[0].lower() not in SPLIT_NAMES:
        raise DataError(
            f"{images / path}: expected train, val or test as the only level. "
            "Class folders are what `mnsa import folders` reads."
        )
    return SPLIT_NAMES[path.parts[0].lower()]


def _below(root: Path, folder: Path, path: PurePosixPath) -> str:
    return (folder.resolve().relative_to(root) / path).as_posix()
