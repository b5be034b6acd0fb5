"""`mnsa traits`: measure many mask files and write one table."""

import csv
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TextIO

from mnsa.data.decode import MASK_FORMATS, open_image, read_mask_indices
from mnsa.data.paths import list_image_files
from mnsa.data.photo_scale import PhotoScale
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.io import parse_json
from mnsa.traits import TraitMeasurer
from mnsa.traits.records import SCALE_COLUMN
from mnsa.visualize.palette import MASK_CLASSES_KEY

_MAX_ERRORS = 10  # in the summary; the table has all

_MAX_VEINS = 0.5  # share of a mask that may be veins without a warning


class MeasureSummary(NamedTuple):
    """The number of masks that were measured, and of those that failed. errors: (mask, error) of the first failed.

    mostly_veins: masks of which more than half is veins, as where white means background.
    """

    done: int
    failed: int
    errors: list[tuple[str, str]]
    mostly_veins: list[str]


def measure_files(
    measurer: TraitMeasurer, masks: Sequence[Path], out: Path, *, mask_classes: int, names: Sequence[str] = (),
    leaf_masks: Path | None = None, photo_scale: PhotoScale | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MeasureSummary:  # fmt: skip
    """Measure each mask and write a row per mask into a new CSV file. A broken mask gets a row with its error.

    photo_scale: gives each mask a scale of its own. names: of classes; a mask that holds other names gets an error.
    leaf_masks: folder of leaf masks with the names of the masks, for a measurer with separate_leaf_mask.
    progress: called with the number of masks done and of all.
    Raises: RunError when `out` exists or can't be written; DataError when there is no folder `leaf_masks`.
    """
    if leaf_masks is not None and not leaf_masks.is_dir():
        raise DataError(f"{leaf_masks} is no folder. Give the folder of the leaf masks.")
    failed, mostly_veins = 0, list[str]()
    errors: list[tuple[str, str]] = []
    with _create_file(out) as file:
        table = csv.DictWriter(file, ["mask", *measurer.table_columns, "error"], restval="", lineterminator="\n")
        table.writeheader()
        for done, path in enumerate(masks, start=1):
            try:
                leaf = None if leaf_masks is None else read_mask_indices(_find_leaf_mask(path, leaf_masks), 1)
                _require_names(path, names)
                own = measurer if photo_scale is None else replace(measurer, px_per_mm=photo_scale.find(path))
                mask = read_mask_indices(path, mask_classes)
                row = own.measure_row(mask, leaf)
                veins = measurer.roles.select_pixels(mask, "vein")
                mostly_veins += [str(path)] if veins is not None and veins.mean() > _MAX_VEINS else []
                row |= {} if own.px_per_mm is None else {SCALE_COLUMN: f"{own.px_per_mm:.6g}"}
            except MnsaError as error:
                row = {"error": str(error)}
                failed += 1
                errors += [(str(path), str(error))] if len(errors) < _MAX_ERRORS else []
            table.writerow({"mask": str(path), **row})
            if progress is not None:
                progress(done, len(masks))
    return MeasureSummary(len(masks) - failed, failed, errors, mostly_veins)


def find_mask_classes(masks: Sequence[Path]) -> tuple[str, ...]:
    """Find the names of classes that the first readable mask holds; () where it holds none."""
    for path in masks:
        with suppress(DataError):
            return read_mask_classes(path)
    return ()


def read_mask_classes(path: Path) -> tuple[str, ...]:
    """Read the names of the classes that `write_mask` keeps in a mask file; () where there are none.

    Raises: BadFileError for a file that is no image.
    """
    with open_image(path, MASK_FORMATS) as image:
        text = image.info.get(MASK_CLASSES_KEY)
    try:
        names = parse_json(text) if isinstance(text, str) else []
    except ValueError:
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _require_names(path: Path, names: Sequence[str]) -> None:
    own = read_mask_classes(path) if names else ()
    if own and own != tuple(names):
        raise DataError(
            f"{path} has the mask classes {', '.join(own)}; the first mask has {', '.join(names)}. "
            "Measure masks of other classes by themselves, or name the classes with --mask-class."
        )


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
