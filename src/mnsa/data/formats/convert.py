"""Convert a data set to the format of another tool. It is validated first; an error leaves no folder."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mnsa.data.formats.coco import write_coco
from mnsa.data.formats.common import NamedRow, name_rows
from mnsa.data.formats.mask_folders import write_mask_folders
from mnsa.data.formats.nnunet import require_nnunet_compatible, write_nnunet
from mnsa.data.formats.yolo import write_yolo
from mnsa.data.manifest import Manifest, new_dataset_folder
from mnsa.errors import DataError

WRITERS: Mapping[str, Callable[[Manifest, list[NamedRow], Path], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "nnunet": write_nnunet,
    "masks": write_mask_folders,
}


def convert_dataset(manifest: Manifest, target: str, out: Path, *, masked_only: bool = False) -> int:
    """Write a data set in a format of `WRITERS` into the new folder `out`; return the number of images.

    masked_only: leave out images without a mask. Raises: DataError, also for data that the format can't store.
    """
    if not manifest.mask_classes:
        raise DataError(f"{manifest.name} has no masks, and {target} is a format of masks. There is nothing to write.")
    if masked_only:
        manifest = replace(manifest, rows=tuple(row for row in manifest.rows if row.mask))
    if not any(row.mask for row in manifest.rows):
        raise DataError(f"{manifest.name}: no image has a mask, and {target} is a format of masks.")
    if target == "nnunet":
        require_nnunet_compatible(manifest, out)
    with new_dataset_folder(out) as folder:
        WRITERS[target](manifest, name_rows(manifest), folder)
    return len(manifest.rows)
