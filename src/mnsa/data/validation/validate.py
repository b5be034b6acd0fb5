"""Every fault of a data set in one pass: the table, the names, every file, and what they have in common."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mnsa.data.check.classes import class_faults
from mnsa.data.check.duplicates import like_pictures, same_files, shared_masks
from mnsa.data.check.files import Seen, look
from mnsa.data.check.names import colliding_names, unnamed_files, with_near_names
from mnsa.data.check.summary import Summary, summarise
from mnsa.data.faults import KINDS, Fault
from mnsa.data.manifest import Manifest, scan_manifest
from mnsa.errors import DataError

Progress = Callable[[int, int], None]

_FEW = 200  # images that are looked at sooner than other processes have started
_CHUNK = 32


@dataclass(frozen=True)
class Findings:
    """What a check found. manifest: the rows that could be looked at, or None where the two files can't be read.

    faults: errors first, then by kind, then in the manifest's order.
    """

    folder: Path
    manifest: Manifest | None
    faults: tuple[Fault, ...]
    summary: Summary | None

    @property
    def errors(self) -> int:
        """How many faults are errors."""
        return sum(fault.severity == "error" for fault in self.faults)

    @property
    def exit_code(self) -> int:
        """0: clean, 1: warnings alone, 2: errors."""
        return 2 if self.errors else 1 if self.faults else 0

    def as_tree(self) -> dict[str, Any]:
        """Everything but the rows, for JSON."""
        names = ("kind", "file", "reason", "fix", "where")
        return {
            "dataset": str(self.folder),
            "errors": self.errors,
            "warnings": len(self.faults) - self.errors,
            "faults": [
                {"severity": one.severity, **{name: getattr(one, name) for name in names}} for one in self.faults
            ],
            "summary": self.summary,
        }


def check_dataset(folder: Path, *, workers: int = 1, progress: Progress | None = None) -> Findings:
    """Look at everything once. workers: processes that open the files; the findings don't depend on it.

    progress: called with (rows done, rows in all). Raises: DataError when a process is killed.
    """
    try:
        manifest, faults = scan_manifest(folder)
    except DataError as error:
        fix = "Mend this first: nothing else can be judged without it"
        return Findings(
            folder, None, (Fault("manifest", str(folder), f"can't be read as a data set: {error}", fix),), None
        )
    seen: list[Seen] = []
    for one in _look_at_all(manifest, workers):
        seen.append(one)
        if progress is not None:
            progress(len(seen), len(manifest.rows))
    faults.extend(with_near_names([fault for one in seen for fault in one.faults], manifest.root))
    faults.extend(_common_faults(manifest, seen))
    order = {kind: place for place, kind in enumerate(KINDS)}
    faults.sort(key=lambda fault: (fault.severity, order[fault.kind]))  # "error" comes before "warning"
    return Findings(folder, manifest, tuple(faults), summarise(manifest, seen))


def _look_at_all(manifest: Manifest, workers: int) -> Iterator[Seen]:
    """Open every row's files, in the rows' order."""
    see = partial(look, manifest.root, len(manifest.mask_classes))
    names = [(row.image, row.mask) for row in manifest.rows]
    if workers == 1 or len(names) <= _FEW:
        yield from map(see, names)
        return
    # Spawned, not forked: a fork copies the locks of whatever threads the caller's libraries run.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_hush) as pool:
        try:
            yield from pool.map(see, names, chunksize=_CHUNK)
        except BrokenProcessPool:
            raise DataError(
                f"{manifest.name}: a process that read images was killed, most likely for want of memory. "
                "Use fewer --workers, and look for a file of unusual size."
            ) from None


def _hush() -> None:
    """What Pillow mumbles about a file, its faults say."""
    warnings.simplefilter("ignore")


def _common_faults(manifest: Manifest, seen: Sequence[Seen]) -> Iterator[Fault]:
    """Report what no file shows by itself."""
    rows, pictures = manifest.rows, [one.picture for one in seen]
    yield from class_faults(manifest)
    yield from colliding_names(manifest)
    yield from unnamed_files(manifest)
    yield from same_files(rows, pictures)
    yield from like_pictures(rows, pictures)
    yield from shared_masks(rows, pictures, [one.truth for one in seen])
