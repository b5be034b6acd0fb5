"""Class folders: [SPLIT/]CLASS/image, with or without a folder of masks."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path, PurePosixPath

from mnsa.data.formats.common import SPLIT_ALIASES, build_manifest
from mnsa.data.formats.names import clean_class_name
from mnsa.data.manifest import Manifest, Row
from mnsa.data.paths import PassedOver, compose, is_layout_word, log_passed_over, scan_images
from mnsa.errors import DataError

MASK_FOLDERS = frozenset({"masks", "mask", "annotations", "labels"})  # in any case, like all words of the layout
IMAGE_FOLDERS = frozenset({"images"})  # a level without meaning: skipped


def import_folders(
    source: Path, *, mask_classes: Sequence[str] | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Import `[split/]class/image`, and masks of the same stem under masks/, mirrored or flat.

    The folder of masks may also be called mask, annotations or labels. Case of these words and of splits is ignored.
    mask_classes: names in order of pixel value; None infers them. Raises: DataError with the file that doesn't fit.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder. Give the folder that holds the class folders.")
    visible = scan_images(source, passed := PassedOver(), text_names=True)
    if not visible:
        raise DataError(f"{source} holds no images that can be imported. {passed.describe()} Expected class/image.jpg.")
    log_passed_over(source, passed)
    masks = _MaskMatcher([path for path in visible if _has_mask_folder(path)])
    rows = [_image_row(path, masks) for path in visible if not _has_mask_folder(path)]
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


def _has_mask_folder(path: PurePosixPath) -> bool:
    return any(part.lower() in MASK_FOLDERS for part in path.parts[:-1])


def _split_levels(path: PurePosixPath, meaningless: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Get the split of a path, if any, and the other folder levels, without those that are `meaningless`."""
    levels = tuple(compose(part) for part in path.parts[:-1] if part.lower() not in meaningless)
    if levels and (split := SPLIT_ALIASES.get(levels[0].lower())):
        return (split,), levels[1:]
    return (), levels


def _image_row(image: PurePosixPath, masks: _MaskMatcher) -> Row:
    split, below = _split_levels(image, IMAGE_FOLDERS)
    if len(below) > 1:
        raise DataError(
            f"{image} lies {len(split) + len(below)} folders deep; expected class/image or split/class/image. "
            "Import the folder that has the classes, or list the images in a table: mnsa import csv."
        )
    if below and is_layout_word(below[0]):
        raise DataError(
            f"{image}: {below[0]!r} would be a class, but it is a word for a split or for masks. "
            "Expected class/image or split/class/image. Rename the folder if it is a class."
        )
    mask = masks.find(image, split, below)
    if not below and not mask:
        raise DataError(f"{image} lies in no class folder and has no mask. Move it into a class folder, or away.")
    return Row(str(image), mask, label=clean_class_name(below[0], str(image)) if below else "", split="".join(split))


def _require_consistent_splits(rows: Sequence[Row], source: Path) -> None:
    """Reject class folders beside split folders, as their images have no split. Raises: DataError."""
    stray = next((row for row in rows if not row.split), None)
    if stray and any(row.split for row in rows):
        raise DataError(f"{source} has train/val/test folders, but {stray.image} lies in none. Move it into one.")
