"""Validate a data set: completely, for a report, or before training, which stops at errors."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mnsa.data.findings import SEVERITY_BY_KIND, Finding
from mnsa.data.manifest import Manifest, scan_manifest
from mnsa.data.rows import SPLITS, Row
from mnsa.data.validation.consistency import (
    class_findings,
    exact_duplicate_findings,
    mask_class_findings,
    name_collision_findings,
    near_duplicate_findings,
    shared_mask_findings,
    suggest_similar_names,
    unlisted_file_findings,
)
from mnsa.data.validation.inspect import Inspection, inspect_files
from mnsa.errors import DataError

Progress = Callable[[int, int], None]
"""Called with the number of rows done and the number of all rows."""

_MIN_ROWS_FOR_PROCESSES = 200  # fewer rows are done before worker processes have started

_ROWS_PER_CHUNK = 32

_MAX_LISTED = 10

Summary = dict[str, Any]


@dataclass(frozen=True)
class ValidationReport:
    """Result of a validation.

    manifest: the rows that could be inspected; None if manifest.csv or dataset.toml can't be read.
    findings: errors first, then sorted by kind, then in the manifest's order.
    """

    folder: Path
    manifest: Manifest | None
    findings: tuple[Finding, ...]
    summary: Summary | None

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0: no findings. 1: only warnings. 2: errors."""
        return 2 if self.errors else 1 if self.findings else 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to values for JSON, without the manifest."""
        names = ("severity", "kind", "file", "reason", "fix", "location")
        return {
            "dataset": str(self.folder),
            "errors": self.errors,
            "warnings": len(self.findings) - self.errors,
            "findings": [{name: getattr(finding, name) for name in names} for finding in self.findings],
            "summary": self.summary,
        }


def validate_dataset(folder: Path, *, workers: int = 1, progress: Progress | None = None) -> ValidationReport:
    """Inspect every file of a data set and compare rows, splits and images.

    workers: number of processes that read files; it does not change the findings.
    Raises: DataError when a worker process is killed.
    """
    try:
        manifest, findings = scan_manifest(folder)
    except DataError as error:
        fix = "Correct this first: nothing else can be validated without it"
        finding = Finding("manifest", str(folder), f"can't be read as a data set: {error}", fix)
        return ValidationReport(folder, None, (finding,), None)
    inspections: list[Inspection] = []
    for inspection in _inspect_rows(manifest, workers):
        inspections.append(inspection)
        if progress is not None:
            progress(len(inspections), len(manifest.rows))
    file_findings = (finding for inspection in inspections for finding in inspection.findings)
    findings.extend(suggest_similar_names(file_findings, manifest.root))
    findings.extend(_dataset_findings(manifest, inspections))
    order = {kind: number for number, kind in enumerate(SEVERITY_BY_KIND)}
    findings.sort(key=lambda finding: (finding.severity, order[finding.kind]))  # "error" sorts before "warning"
    return ValidationReport(folder, manifest, tuple(findings), summarize(manifest, inspections))


def find_errors(manifest: Manifest) -> list[Finding]:
    """Decode every image and mask once, and collect the errors, in the manifest's order."""
    return _errors_of(_inspect_in_threads(manifest, None))


def require_valid(manifest: Manifest, *, progress: Progress | None = None) -> list[Inspection]:
    """Require that every image and mask can be used; decodes each once, in threads, and returns what was found.

    Raises: DataError that lists the first errors and counts all.
    """
    inspections = _inspect_in_threads(manifest, progress)
    errors = _errors_of(inspections)
    if not errors:
        return inspections
    listed = "".join(f"\n  {finding.file}: {finding.reason}. {finding.fix}." for finding in errors[:_MAX_LISTED])
    more = f"\n  and {len(errors) - _MAX_LISTED} more" if len(errors) > _MAX_LISTED else ""
    raise DataError(
        f"{manifest.name}: {len(errors)} of its files can't be used:{listed}{more}\n"
        f"Restore the files below {manifest.root}, or remove their rows from manifest.csv."
    )


def summarize(manifest: Manifest, inspections: Sequence[Inspection]) -> Summary:
    """Count rows, and measure the readable files. A value is None when no file or row has it."""
    return {
        "images": len(manifest.rows),
        "splits": _count_by_split(manifest.rows),
        "classes": _count_by_class(manifest),
        "groups": len({row.group for row in manifest.rows if row.group}),
        "masks": sum(bool(row.mask) for row in manifest.rows),
        "size": _summarize_sizes(inspections),
        "foreground": _mean_class_fractions(manifest.mask_classes, inspections),
        "px_per_mm": _summarize_scales(manifest.rows),
    }


def _inspect_in_threads(manifest: Manifest, progress: Progress | None) -> list[Inspection]:
    inspections: list[Inspection] = []
    names = [(row.image, row.mask) for row in manifest.rows]
    with ThreadPoolExecutor() as pool:
        for inspection in pool.map(partial(inspect_files, manifest.root, len(manifest.mask_classes)), names):
            inspections.append(inspection)
            if progress is not None:
                progress(len(inspections), len(names))
    return inspections


def _errors_of(inspections: Sequence[Inspection]) -> list[Finding]:
    return [finding for one in inspections for finding in one.findings if finding.severity == "error"]


def _inspect_rows(manifest: Manifest, workers: int) -> Iterator[Inspection]:
    """Inspect the files of every row, in order."""
    inspect = partial(inspect_files, manifest.root, len(manifest.mask_classes))
    names = [(row.image, row.mask) for row in manifest.rows]
    if workers == 1 or len(names) <= _MIN_ROWS_FOR_PROCESSES:
        yield from map(inspect, names)
        return
    # spawn: a forked process would inherit locks held by threads of the caller.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_ignore_messages) as pool:
        try:
            yield from pool.map(inspect, names, chunksize=_ROWS_PER_CHUNK)
        except BrokenProcessPool:
            raise DataError(
                f"{manifest.name}: a process that reads images was killed, probably because memory was full. "
                "Use fewer workers, and look for a very large image."
            ) from None


def _ignore_messages() -> None:
    """Print no messages about files in a worker process: the findings report the same problems."""
    logging.getLogger("mnsa").addHandler(logging.NullHandler())


def _dataset_findings(manifest: Manifest, inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Report problems that need more than one file or row."""
    rows, images = manifest.rows, [inspection.image for inspection in inspections]
    yield from class_findings(manifest)
    yield from name_collision_findings(manifest)
    yield from unlisted_file_findings(manifest)
    yield from exact_duplicate_findings(rows, images)
    yield from near_duplicate_findings(rows, images)
    masks = [inspection.mask for inspection in inspections]
    yield from shared_mask_findings(rows, images, masks)
    yield from mask_class_findings(manifest, masks)


def _count_by_split(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row.split if row.split in SPLITS else "unused" for row in rows)
    return {split: counts[split] for split in (*SPLITS, "unused")}


def _count_by_class(manifest: Manifest) -> dict[str, dict[str, int]]:
    rows_of_class: dict[str, list[Row]] = {name: [] for name in manifest.classes}
    for row in manifest.rows:
        if row.label in rows_of_class:
            rows_of_class[row.label].append(row)
    return {name: _count_by_split(rows) for name, rows in rows_of_class.items()}


def _summarize_sizes(inspections: Sequence[Inspection]) -> Summary | None:
    """Image sizes (W, H) in pixels."""
    sizes = Counter(inspection.image.size for inspection in inspections if inspection.image)
    if not sizes:
        return None
    by_area = sorted(sizes.elements(), key=lambda size: size[0] * size[1])
    return {
        "different": len(sizes),
        "smallest": by_area[0],
        "median": by_area[len(by_area) // 2],
        "largest": by_area[-1],
    }


def _mean_class_fractions(mask_classes: Sequence[str], inspections: Sequence[Inspection]) -> dict[str, float] | None:
    """Mean fraction of each class in the pixels of a mask. With a single mask class, the background is left out."""
    fractions = [
        np.array(inspection.mask.pixels) / sum(inspection.mask.pixels) for inspection in inspections if inspection.mask
    ]
    if not fractions:
        return None
    mean = np.mean(fractions, axis=0)
    return dict(zip(mask_classes, (mean[1:] if len(mask_classes) == 1 else mean).tolist(), strict=True))


def _summarize_scales(rows: Sequence[Row]) -> Summary | None:
    scales = [row.px_per_mm for row in rows if row.px_per_mm]
    if not scales:
        return None
    return {"rows": len(scales), "smallest": min(scales), "median": float(np.median(scales)), "largest": max(scales)}
