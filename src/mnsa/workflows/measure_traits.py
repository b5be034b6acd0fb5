"""`mnsa traits`: measure many mask files and write one table."""

import csv
from pathlib import Path
from typing import NamedTuple, TextIO

from mnsa.data.decode import read_mask_indices
from mnsa.data.paths import list_image_files
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.traits import TraitMeasurer


class MeasureSummary(NamedTuple):
    """The number of masks that were measured, and of those that failed."""

    done: int
    failed: int


def measure_files(
    measurer: TraitMeasurer, masks: list[Path], out: Path, *, mask_classes: int, leaf_masks: Path | None = None
) -> MeasureSummary:
    """Measure each mask and write a row per mask into a new CSV file. A broken mask gets a row with its error.

    leaf_masks: folder of leaf masks with the names of the masks, for a measurer with separate_leaf_mask.
    Raises: RunError when `out` exists or can't be written.
    """
    failed = 0
    with _create_file(out) as file:
        table = csv.DictWriter(file, ["mask", *measurer.columns, "error"], restval="", lineterminator="\n")
        table.writeheader()
        for path in masks:
            try:
                leaf = None if leaf_masks is None else read_mask_indices(_find_leaf_mask(path, leaf_masks), 1)
                row = measurer.measure_row(read_mask_indices(path, mask_classes), leaf)
            except MnsaError as error:
                row = {"error": str(error)}
                failed += 1
            table.writerow({"mask": str(path), **row})
    return MeasureSummary(len(masks) - failed, failed)


def _create_file(out: Path) -> TextIO:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # The name of a mask may be no text in any encoding: `surrogateescape` keeps its bytes.
        return out.open("x", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        reason = "exists and was not changed" if out.exists() else f"can't be written: {error.strerror}"
        raise RunError(f"{out} {reason}. Choose another --out.") from None


def _find_leaf_mask(mask: Path, folder: Path) -> Path:
    """Find the leaf mask with the name of a mask. Raises: DataError when there is not exactly one."""
    found = [path for path in list_image_files(folder, recursive=False) if path.stem == mask.stem]
    if len(found) != 1:
        there = ", ".join(sorted(path.name for path in found)) or "none"
        raise DataError(f"{folder} must have one leaf mask named {mask.stem}; there is {there}.")
    return folder / found[0]
