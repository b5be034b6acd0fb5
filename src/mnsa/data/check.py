"""Every fault of a data set's files, found in one pass before training begins."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mnsa.data.images import read_image, read_mask
from mnsa.data.manifest import Manifest, Row
from mnsa.errors import DataError

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that can't be used, as the manifest names it, and why."""

    file: str
    reason: str


def find_faults(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> list[Fault]:
    """Decode every image and mask once, in threads, and list what is wrong, in the manifest's order.

    progress: called with (rows done, rows in all).
    """
    faults = []
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(lambda row: _faults_of(manifest, row), manifest.rows), 1):
            faults.extend(found)
            if progress is not None:
                progress(done, len(manifest.rows))
    return faults


def require_sound(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Do nothing when every file can be used. Raises: one DataError listing the first faults and their number."""
    faults = find_faults(manifest, progress=progress)
    if not faults:
        return
    listed = "".join(f"\n  {fault.file}: {fault.reason}" for fault in faults[:SHOWN])
    more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    raise DataError(
        f"{manifest.name}: {len(faults)} of its files can't be used:{listed}{more}\n"
        f"Restore the files under {manifest.root}, or take their rows out of manifest.csv."
    )


def _faults_of(manifest: Manifest, row: Row) -> list[Fault]:
    try:
        height, width = read_image(manifest.image_path(row)).shape[-2:]
    except DataError as error:
        return [Fault(row.image, str(error))]
    if not row.mask:
        return []
    try:
        mask_height, mask_width = read_mask(manifest.mask_path(row), len(manifest.mask_classes)).shape
    except DataError as error:
        return [Fault(row.mask, str(error))]
    if (mask_height, mask_width) != (height, width):
        reason = f"is {mask_width} x {mask_height} pixels, but its image {row.image} is {width} x {height}."
        return [Fault(row.mask, reason)]
    return []
