"""What training and scoring ask for: every file opened once, and all that can't be used named at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mnsa.data.check.files import look
from mnsa.data.faults import Fault
from mnsa.data.manifest import Manifest
from mnsa.errors import DataError

_SHOWN = 10


def find_faults(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> list[Fault]:
    """Decode every image and mask once, in threads, and list the errors, in the manifest's order.

    progress: called with (rows done, rows in all).
    """
    faults: list[Fault] = []
    names = [(row.image, row.mask) for row in manifest.rows]
    with ThreadPoolExecutor() as pool:
        seen = pool.map(partial(look, manifest.root, len(manifest.mask_classes)), names)
        for done, (_, _, found) in enumerate(seen, 1):
            faults.extend(fault for fault in found if fault.severity == "error")
            if progress is not None:
                progress(done, len(names))
    return faults


def require_sound(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Do nothing when every file can be used. Raises: one DataError listing the first faults and their number."""
    faults = find_faults(manifest, progress=progress)
    if not faults:
        return
    listed = "".join(f"\n  {fault.file}: {fault.reason}. {fault.fix}." for fault in faults[:_SHOWN])
    more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    raise DataError(
        f"{manifest.name}: {len(faults)} of its files can't be used:{listed}{more}\n"
        f"Restore the files under {manifest.root}, or take their rows out of manifest.csv."
    )
