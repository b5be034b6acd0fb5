"""What can be wrong with a data set: every kind of finding, its severity, and its text.

An error stops training, or makes its scores wrong. A warning does neither, but deserves a look.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from mnsa.errors import DataError

Severity = Literal["error", "warning"]


SEVERITY_BY_KIND: Mapping[str, Severity] = {
    # the two files of the data set
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
    "decompression-bomb": "error",
    "pixel-type": "error",
    "wrong-extension": "warning",
    "animated": "warning",
    "lossy-mode": "warning",
    # masks
    "mask-size": "error",
    "mask-rotation": "error",
    "mask-rotation-unclear": "warning",
    "mask-values": "error",
    "mask-format": "error",
    "mask-empty": "warning",
    "mask-full": "warning",
    "mask-shared": "warning",
    # classes and splits
    "nothing-to-learn": "error",
    "class-untrained": "error",
    "class-not-in-split": "warning",
    "class-small": "warning",
    "split-empty": "warning",
    # the same picture twice
    "duplicate-across-splits": "error",
    "duplicate-across-labels": "error",
    "duplicate": "warning",
    "near-duplicate-across-splits": "error",
    "near-duplicate-across-labels": "warning",
    # names
    "name-collision": "warning",
    "unnamed-file": "warning",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. file: as the manifest names it; where: file and line of the table, if it is a row's.

    reason goes on after the file's name ("is empty"); fix is an order ("Restore the file").
    """

    kind: str
    file: str
    reason: str
    fix: str
    where: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is: a matter of the kind alone."""
        return SEVERITY_BY_KIND[self.kind]


OnFinding = Callable[[Finding], None]

"""What is done with a finding that is met on the way: `refuse` it, or append it to a list and go on."""


def raise_finding(finding: Finding) -> None:
    """Stop at a finding. Raises: DataError with place, reason and fix."""
    raise DataError(f"{finding.where or finding.file}: {finding.reason}. {finding.fix}.")
