"""What every importer needs: names of splits, names of mask classes, and a finished manifest."""

from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mnsa.data.images import mask_values
from mnsa.data.manifest import Manifest, Row
from mnsa.data.splits import carve_validation
from mnsa.errors import DataError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MOST_CLASSES = 32  # more values than this are grey levels, not classes


def assemble(
    root: Path, rows: Sequence[Row], mask_classes: Sequence[str] | None, validation_share: float, seed: int
) -> Manifest:
    """Finish a manifest: classes in order, mask classes from the pixels unless named, validation carved if missing.

    Raises: DataError when there are no images, mask classes without masks, or mask values that are no class indices.
    """
    if not rows:
        raise DataError(f"{root} holds no images that can be imported; expected .jpg, .png, .tif, .webp or .bmp files.")
    if not any(row.split == "val" for row in rows):
        rows = carve_validation(rows, share=validation_share, seed=seed)
    root = root.resolve()
    classes = _in_order({row.label for row in rows if row.label})
    manifest = Manifest(root.name, root, classes, tuple(mask_classes or ()), tuple(rows))
    masks = [manifest.mask_path(row) for row in rows if row.mask]
    if manifest.mask_classes and not masks:
        raise DataError(f"Mask classes are named ({', '.join(manifest.mask_classes)}), but no image has a mask.")
    return manifest if manifest.mask_classes else replace(manifest, mask_classes=_infer_mask_classes(masks))


def _in_order(labels: Set[str]) -> tuple[str, ...]:
    """Sort whole numbers by value, so that 1, 2, ..., 10 have the indices 0, 1, ..., 9; anything else as text."""
    if all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (len(label.lstrip("0")), label.lstrip("0"), label)))
    return tuple(sorted(labels))


def _infer_mask_classes(masks: Sequence[Path]) -> tuple[str, ...]:
    """Name the classes after the pixel values of all masks: one name for 0/1 or 0/255, else one for each of 0..max."""
    if not masks:
        return ()
    with ThreadPoolExecutor() as pool:
        values_of = dict(zip(masks, pool.map(mask_values, masks), strict=True))
    values = frozenset[int]().union(*values_of.values())
    if values <= {0, 1} or values <= {0, 255}:
        return ("foreground",)
    largest = max(values)
    if largest >= MOST_CLASSES:
        culprit = next(path for path, found in values_of.items() if largest in found)
        raise DataError(
            f"Mask {culprit} has the pixel value {largest}, so the masks hold grey levels rather than class indices. "
            "Save them as 0/255, or as PNG with the values 0, 1, 2, ..."
        )
    return ("background", *(f"class{index}" for index in range(1, largest + 1)))
