"""Validate a data set: in full, for a report, or before training, where the first errors stop it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mnsa.data.findings import SEVERITY_BY_KIND, Finding
from mnsa.data.manifest import Manifest, scan_manifest
from mnsa.data.validation.consistency import (
    class_findings,
    exact_duplicate_findings,
    name_collision_findings,
    near_duplicate_findings,
    shared_mask_findings,
    suggest_similar_names,
    unlisted_file_findings,
)
from mnsa.data.validation.inspect import Inspection, inspect_files
from mnsa.data.validation.summary import Summary, summarize
from mnsa.errors import DataError

Progress = Callable[[int, int], None]


_MIN_ROWS_FOR_PROCESSES = 200  # images that are looked at sooner than other processes have started

_ROWS_PER_CHUNK = 32


@dataclass(frozen=True)
class ValidationReport:
    """What a check found. manifest: the rows that could be looked at, or None where the two files can't be read.

    findings: errors first, then by kind, then in the manifest's order.
    """

    folder: Path
    manifest: Manifest | None
    findings: tuple[Finding, ...]
    summary: Summary | None

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0: clean, 1: warnings alone, 2: errors."""
        return 2 if self.errors else 1 if self.findings else 0

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, for JSON."""
        names = ("kind", "file", "reason", "fix", "location")
        return {
            "dataset": str(self.folder),
            "errors": self.errors,
            "warnings": len(self.findings) - self.errors,
            "findings": [
                {"severity": one.severity, **{name: getattr(one, name) for name in names}} for one in self.findings
            ],
            "summary": self.summary,
        }


def validate_dataset(folder: Path, *, workers: int = 1, progress: Progress | None = None) -> ValidationReport:
    """Look at everything once. workers: processes that open the files; the findings don't depend on it.

    progress: called with (rows done, rows in all). Raises: DataError when a process is killed.
    """
    try:
        manifest, findings = scan_manifest(folder)
    except DataError as error:
        fix = "Mend this first: nothing else can be judged without it"
        return ValidationReport(
            folder, None, (Finding("manifest", str(folder), f"can't be read as a data set: {error}", fix),), None
        )
    seen: list[Inspection] = []
    for one in _inspect_all(manifest, workers):
        seen.append(one)
        if progress is not None:
            progress(len(seen), len(manifest.rows))
    findings.extend(suggest_similar_names([finding for one in seen for finding in one.findings], manifest.root))
    findings.extend(_dataset_findings(manifest, seen))
    order = {kind: place for place, kind in enumerate(SEVERITY_BY_KIND)}
    findings.sort(key=lambda finding: (finding.severity, order[finding.kind]))  # "error" comes before "warning"
    return ValidationReport(folder, manifest, tuple(findings), summarize(manifest, seen))


def _inspect_all(manifest: Manifest, workers: int) -> Iterator[Inspection]:
    """Open every row's files, in the rows' order."""
    see = partial(inspect_files, manifest.root, len(manifest.mask_classes))
    names = [(row.image, row.mask) for row in manifest.rows]
    if workers == 1 or len(names) <= _MIN_ROWS_FOR_PROCESSES:
        yield from map(see, names)
        return
    # Spawned, not forked: a fork copies the locks of whatever threads the caller's libraries run.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_silence_warnings) as pool:
        try:
            yield from pool.map(see, names, chunksize=_ROWS_PER_CHUNK)
        except BrokenProcessPool:
            raise DataError(
                f"{manifest.name}: a process that read images was killed, most likely for want of memory. "
                "Use fewer --workers, and look for a file of unusual size."
            ) from None


def _silence_warnings() -> None:
    """What Pillow mumbles about a file, its findings say."""
    warnings.simplefilter("ignore")


def _dataset_findings(manifest: Manifest, seen: Sequence[Inspection]) -> Iterator[Finding]:
    """Report what no file shows by itself."""
    rows, images = manifest.rows, [one.image for one in seen]
    yield from class_findings(manifest)
    yield from name_collision_findings(manifest)
    yield from unlisted_file_findings(manifest)
    yield from exact_duplicate_findings(rows, images)
    yield from near_duplicate_findings(rows, images)
    yield from shared_mask_findings(rows, images, [one.mask for one in seen])


_MAX_SHOWN = 10


def find_errors(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
    """Decode every image and mask once, in threads, and list the errors, in the manifest's order.

    progress: called with (rows done, rows in all).
    """
    findings: list[Finding] = []
    names = [(row.image, row.mask) for row in manifest.rows]
    with ThreadPoolExecutor() as pool:
        seen = pool.map(partial(inspect_files, manifest.root, len(manifest.mask_classes)), names)
        for done, (_, _, found) in enumerate(seen, 1):
            findings.extend(finding for finding in found if finding.severity == "error")
            if progress is not None:
                progress(done, len(names))
    return findings


def require_valid(manifest: Manifest, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Do nothing when every file can be used. Raises: one DataError listing the first findings and their number."""
    findings = find_errors(manifest, progress=progress)
    if not findings:
        return
    listed = "".join(f"\n  {finding.file}: {finding.reason}. {finding.fix}." for finding in findings[:_MAX_SHOWN])
    more = f"\n  and {len(findings) - _MAX_SHOWN} more" if len(findings) > _MAX_SHOWN else ""
    raise DataError(
        f"{manifest.name}: {len(findings)} of its files can't be used:{listed}{more}\n"
        f"Restore the files under {manifest.root}, or take their rows out of manifest.csv."
    )
