"""One way out for all layouts: the data set is checked, then written whole or not at all."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mnsa.data.manifest import Manifest, fresh_folder
from mnsa.data.writers.coco import write_coco
from mnsa.data.writers.entries import Entry, entries_of
from mnsa.data.writers.mask_folders import write_mask_folders
from mnsa.data.writers.nnunet import require_nnunet, write_nnunet
from mnsa.data.writers.yolo import write_yolo
from mnsa.errors import DataError

LAYOUTS: Mapping[str, Callable[[Manifest, list[Entry], Path], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "nnunet": write_nnunet,
    "masks": write_mask_folders,
}


def convert(manifest: Manifest, layout: str, out: Path, *, masked_only: bool = False) -> int:
    """Write a data set as one of `LAYOUTS` into the new folder `out`; return how many images it has.

    masked_only: leave out images without a mask. Raises: DataError, also for what the layout can't hold.
    """
    if not manifest.mask_classes:
        raise DataError(f"{manifest.name} has no masks, and {layout} is a layout of masks. There is nothing to write.")
    if masked_only:
        manifest = replace(manifest, rows=tuple(row for row in manifest.rows if row.mask))
    if not any(row.mask for row in manifest.rows):
        raise DataError(f"{manifest.name}: no image has a mask, and {layout} is a layout of masks.")
    if layout == "nnunet":
        require_nnunet(manifest, out)
    with fresh_folder(out) as folder:
        LAYOUTS[layout](manifest, entries_of(manifest), folder)
    return len(manifest.rows)
