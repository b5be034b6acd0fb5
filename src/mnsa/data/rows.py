"""The rows of a manifest, and what must hold of them. No file is touched here.

Whoever checks says what is done with a fault: `refuse` stops at the first, a list's `append` collects them all.
"""

import math
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mnsa.data.faults import Fault, OnFault, refuse
from mnsa.data.table import Line

COLUMNS = ("image", "mask", "label", "split", "group", "px_per_mm")
SPLITS = ("train", "val", "test")
LONGEST_PATH = 4096  # characters; systems take no more, and following it takes time
_NO_PATH = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")  # control characters, what Windows divides by, its drives


@dataclass(frozen=True, slots=True)
class Row:
    """One image. Empty text: not known. Paths are POSIX, relative to the manifest's root.

    group: images of one plant share it and stay in one split. extra: every other column, kept as text.
    """

    image: str
    mask: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    px_per_mm: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_row(line: Line, on_fault: OnFault) -> Row:
    """Take a row's known columns and its extras; a scale that is none is reported and left out."""
    cells = {name: line.cells.get(name, "") for name in COLUMNS}
    extra = {name: text for name, text in line.cells.items() if name not in cells}
    px_per_mm = parse_px_per_mm(cells.pop("px_per_mm"), line.where, on_fault)
    return Row(**cells, px_per_mm=px_per_mm, extra=extra)


def parse_px_per_mm(text: str, where: str, on_fault: OnFault = refuse) -> float | None:
    """Read a scale in pixels per millimetre; empty text is None."""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not (math.isfinite(value) and value > 0):
        reason = f"px_per_mm is {text!r}; expected a positive number, or nothing"
        on_fault(Fault("bad-scale", "manifest.csv", reason, "Correct it, or leave it empty", where))
        return None
    return value


def checked_path(text: str, where: str, column: str) -> str:
    """Pass on a path that is inside the root by its wording. Raises: DataError beginning with `where`."""
    if fault := _path_fault(text, where, column):
        refuse(fault)
    return text


def is_inside(path: str) -> bool:
    """Tell whether a path is inside the root by its wording; a link may still lead out of it."""
    return _path_fault(path, "", "") is None


def check_rows(
    rows: Sequence[Row], places: Sequence[str], classes: Sequence[str], mask_classes: Sequence[str], on_fault: OnFault
) -> None:
    """Check what holds between rows and names. places: file and line of each row, for the reports."""
    seen: dict[str, str] = {}
    split_of_group: dict[str, str] = {}
    known = frozenset(classes)
    for row, where in zip(rows, places, strict=True):
        _check_row(row, where, known, mask_classes, on_fault)
        if seen.setdefault(posixpath.normpath(row.image), where) != where:
            reason = f"image {row.image!r} is listed before, at {seen[posixpath.normpath(row.image)]}"
            on_fault(Fault("listed-twice", row.image, reason, "List it once", where))
        if row.group and row.split and split_of_group.setdefault(row.group, row.split) != row.split:
            reason = f"group {row.group!r} is in {split_of_group[row.group]} and {row.split}"
            on_fault(Fault("group-leak", row.image, reason, "Keep it in one split, or leave group empty", where))


def _check_row(row: Row, where: str, classes: frozenset[str], mask_classes: Sequence[str], on_fault: OnFault) -> None:
    if fault := _path_fault(row.image, where, "image"):
        on_fault(fault)
    if row.mask:
        if fault := _path_fault(row.mask, where, "mask"):
            on_fault(fault)
        if not mask_classes:
            reason = "a mask is given, but dataset.toml names no mask_classes"
            on_fault(Fault("mask-undeclared", row.mask, reason, "Name them there", where))
    if row.label and row.label not in classes:
        reason = f"label {row.label!r} is not among the classes of dataset.toml"
        on_fault(Fault("label-unknown", row.image, reason, "Add it there", where))
    if row.split and row.split not in SPLITS:
        reason = f"split is {row.split!r}; expected {', '.join(SPLITS)} or nothing"
        on_fault(Fault("split-unknown", row.image, reason, "Correct it", where))


def _path_fault(text: str, where: str, column: str) -> Fault | None:
    if not text:
        reason = f"{column} is empty; expected a path relative to the root"
        return Fault("bad-path", "manifest.csv", reason, "Name the file", where)
    # what some systems take for another form of one letter must not lead out either
    if _leads_out(text) or (not text.isascii() and _leads_out(unicodedata.normalize("NFKC", text))):
        shown = text if len(text) <= LONGEST_PATH else f"{text[:80]}..."
        reason = f"{column} is {shown!r}; expected a path inside the root, with / and without `..`"
        return Fault("bad-path", shown, reason, "Copy the file into the root and name it there", where)
    return None


def _leads_out(path: str) -> bool:
    if len(path) > LONGEST_PATH or _NO_PATH.search(path) or path.startswith("/"):
        return True
    return ".." in path and ".." in path.split("/")
