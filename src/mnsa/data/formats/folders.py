"""Class folders: [SPLIT/]CLASS/image, with or without a folder of masks."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mnsa.data.formats.common import SPLIT_ALIASES, build_manifest
from mnsa.data.manifest import Manifest, Row
from mnsa.data.paths import list_image_files
from mnsa.errors import DataError

MASK_FOLDERS = frozenset({"masks", "mask", "annotations"})
IMAGE_FOLDERS = frozenset({"images"})  # a level without meaning: skipped


def import_folders(
    source: Path, *, mask_classes: Sequence[str] | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Import `[split/]class/image`, and masks of the same stem under masks/, mask/ or annotations/, mirrored or flat.

    mask_classes: names in order of pixel value; None infers them. Raises: DataError with the file that doesn't fit.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder. Give the folder that holds the class folders.")
    visible = list_image_files(source)
    masks = _MaskMatcher([path for path in visible if MASK_FOLDERS & set(path.parts[:-1])])
    rows = [_image_row(path, masks) for path in visible if not MASK_FOLDERS & set(path.parts[:-1])]
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
            place = tuple(part for part in path.parts[:-1] if part not in MASK_FOLDERS | IMAGE_FOLDERS)
            other = self._by_place.setdefault((*place, path.stem), path)
            if other != path:
                raise DataError(f"The masks {other} and {path} belong to the same image. Keep one of them.")

    def find(self, image: PurePosixPath, levels: Sequence[str]) -> str:
        """Find the mask of an image. Search order: same split and class, same class, same split, flat."""
        split, below = (levels[:1], levels[1:]) if levels and levels[0] in SPLIT_ALIASES else ((), levels)
        for place in ((*split, *below), tuple(below), tuple(split), ()):
            mask = self._by_place.get((*place, image.stem))
            if mask is None:
                continue
            owner = self._owner.setdefault(mask, image)
            if owner != image:
                raise DataError(
                    f"Mask {mask} fits both {owner} and {image}. Use the same folders for the masks as for the images."
                )
            return str(mask)
        return ""


def _image_row(image: PurePosixPath, masks: _MaskMatcher) -> Row:
    levels = [part for part in image.parts[:-1] if part not in IMAGE_FOLDERS]
    split, below = (SPLIT_ALIASES[levels[0]], levels[1:]) if levels and levels[0] in SPLIT_ALIASES else ("", levels)
    if len(below) > 1:
        raise DataError(f"{image} lies {len(levels)} folders deep; expected class/image or split/class/image.")
    mask = masks.find(image, levels)
    if not below and not mask:
        raise DataError(f"{image} lies in no class folder and has no mask. Move it into a class folder, or away.")
    return Row(str(image), mask, label="".join(below), split=split)


def _require_consistent_splits(rows: Sequence[Row], source: Path) -> None:
    """Reject class folders beside split folders, as their images have no split. Raises: DataError."""
    stray = next((row for row in rows if not row.split), None)
    if stray and any(row.split for row in rows):
        raise DataError(f"{source} has train/val/test folders, but {stray.image} lies in none. Move it into one.")
