"""The registry of broken data sets. Each has one problem, and validation must find exactly this one."""

from collections.abc import Callable
from typing import NamedTuple

from editable_dataset import EditableDataset

Change = Callable[[EditableDataset], str]


class BrokenSet(NamedTuple):
    """change: breaks a data set and returns the file that the finding must name. kind: of the finding.

    also: kinds of findings that may follow from the same problem.
    """

    change: Change
    kind: str
    also: frozenset[str]

    @property
    def name(self) -> str:
        return self.change.__name__


BROKEN_SETS: list[BrokenSet] = []


def breaks(kind: str, *also: str) -> Callable[[Change], Change]:
    """Register a function that breaks a data set."""

    def register(change: Change) -> Change:
        BROKEN_SETS.append(BrokenSet(change, kind, frozenset(also)))
        return change

    return register
