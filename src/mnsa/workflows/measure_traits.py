"""`mnsa traits`: measure many mask files and write one table."""

import csv
from pathlib import Path
from typing import NamedTuple, TextIO

from mnsa.data.decode import read_mask_indices
from mnsa.data.paths import list_image_files
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.traits import TraitMeasurer


class MeasureSummary(NamedTuple):
    """How many masks were measured, and how many couldn't be."""

    done: int
    failed: int


def measure_files(
    measurer: TraitMeasurer, masks: list[Path], out: Path, *, mask_classes: int, leaf_masks: Path | None = None
) -> MeasureSummary:
    """Measure each mask into a new CSV file; a broken one gets its reason there and the others are done.

    leaf_masks: a folder with a leaf mask of each mask's name, for a measurer whose leaf comes apart.
    Raises: RunError when `out` exists or can't be written.
    """
    broken = 0
    with _create_file(out) as file:
        table = csv.DictWriter(file, ["mask", *measurer.columns, "error"], restval="", lineterminator="\n")
        table.writeheader()
        for path in masks:
            try:
                leaf = None if leaf_masks is None else read_mask_indices(_find_leaf_mask(path, leaf_masks), 1)
                row = measurer.measure_row(read_mask_indices(path, mask_classes), leaf)
            except MnsaError as error:
                row = {"error": str(error)}
                broken += 1
            table.writerow({"mask": str(path), **row})
    return MeasureSummary(len(masks) - broken, broken)


def _create_file(out: Path) -> TextIO:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out.open("x", newline="", encoding="utf-8")
    except OSError as error:
        reason = "exists and is left as it is" if out.exists() else f"can't be written: {error.strerror}"
        raise RunError(f"{out} {reason}. Choose another --out.") from None


def _find_leaf_mask(mask: Path, folder: Path) -> Path:
    """Find the leaf mask of a mask's name. Raises: DataError when there is none."""
    found = [path for path in list_image_files(folder, recursive=False) if path.stem == mask.stem]
    if len(found) != 1:
        there = ", ".join(sorted(path.name for path in found)) or "none"
        raise DataError(f"{folder} must have one leaf mask named {mask.stem}; there is {there}.")
    return folder / found[0]
