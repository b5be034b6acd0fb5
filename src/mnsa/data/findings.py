"""Findings of the validation of a data set: their kinds, severities and texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from mnsa.errors import DataError

Severity = Literal["error", "warning"]

# An error stops training or makes scores wrong. A warning does neither, but should be looked at.
SEVERITY_BY_KIND: Mapping[str, Severity] = {
    # manifest.csv and dataset.toml
    "manifest": "error",
    "bad-row": "error",
    "bad-path": "error",
    "bad-scale": "error",
    "label-unknown": "error",
    "split-unknown": "error",
    "mask-undeclared": "error",
    "listed-twice": "error",
    "group-leak": "error",
    # image files
    "missing": "error",
    "outside-root": "error",
    "zero-byte": "error",
    "unreadable": "error",
    "truncated": "error",
    "unsupported": "error",
    "decompression-bomb": "error",
    "pixel-type": "error",
    "wrong-extension": "warning",
    "animated": "warning",
    "lossy-mode": "warning",
    "image-small": "warning",
    # masks
    "mask-size": "error",
    "mask-rotation": "error",
    "mask-rotation-unclear": "warning",
    "mask-values": "error",
    "mask-format": "error",
    "mask-empty": "warning",
    "mask-full": "warning",
    "mask-shared": "warning",
    "mask-inverted": "warning",
    "mask-class-absent": "warning",
    # classes and splits
    "no-target": "error",
    "class-not-in-train": "error",
    "class-not-in-split": "warning",
    "class-small": "warning",
    "class-name": "warning",
    "split-empty": "warning",
    # images that occur more than once
    "duplicate-across-splits": "error",
    "duplicate-across-labels": "error",
    "duplicate": "warning",
    "near-duplicate-across-splits": "error",
    "near-duplicate-across-labels": "warning",
    # names
    "name-collision": "warning",
    "unlisted-file": "warning",
    "passed-over": "warning",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a data set.

    kind: a key of `SEVERITY_BY_KIND`. file: path as in the manifest, or `manifest.csv` or `dataset.toml`.
    reason: what is wrong; it continues the file name ("is empty"). fix: what to do ("Restore the file").
    location: CSV file and line, for a problem of a row.
    """

    kind: str
    file: str
    reason: str
    fix: str
    location: str = ""

    @property
    def severity(self) -> Severity:
        """Severity of the finding's kind."""
        return SEVERITY_BY_KIND[self.kind]


OnFinding = Callable[[Finding], None]
"""Called with each finding: `raise_finding` stops at the first, the `append` of a list collects all."""


def raise_finding(finding: Finding) -> None:
    """Raise a finding as an error. Raises: DataError with location (or file), reason and fix."""
    raise DataError(f"{finding.location or finding.file}: {finding.reason}. {finding.fix}.")
