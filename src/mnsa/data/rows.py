"""The rows of a manifest: read from a CSV file, parsed and validated. No image file is touched.

The caller decides what happens with a finding: `raise_finding` stops at the first, a list's `append` collects them all.
"""

import csv
import io
import math
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mnsa.data.findings import Finding, OnFinding, raise_finding
from mnsa.errors import DataError
from mnsa.io import open_regular_file

MAX_TABLE_BYTES = 1 << 28  # a million rows have about 100 million

MAX_COLUMNS = 200


class CsvRow(NamedTuple):
    """One row of a table: `where` names file and line for error messages, `cells` maps column to text."""

    where: str
    cells: Mapping[str, str]


def read_csv(path: Path, on_finding: OnFinding = raise_finding) -> tuple[tuple[str, ...], list[CsvRow]]:
    """Column names and lines of a CSV file; blank lines are skipped, and so are lines of another width, once reported.

    Raises: DataError naming the file, and the line where there is one.
    """
    try:
        with open_regular_file(path, max_bytes=MAX_TABLE_BYTES) as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")  # spreadsheets write a byte order mark
            reader = csv.reader(text, strict=True)
            columns = _parse_header(next(reader, []), path)
            lines = (_parse_line(cells, columns, path, reader.line_num, on_finding) for cells in reader if cells)
            return columns, [line for line in lines if line]
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Save it as CSV in UTF-8.") from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} can't be read as CSV: {error}.") from None


def _parse_header(columns: list[str], path: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in columns)
    if not names:
        raise DataError(f"{path} is empty. Expected a header line with column names.")
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; at most {MAX_COLUMNS} are read. Take some out.")
    if len(set(names)) < len(names) or "" in names:
        raise DataError(f"{path}: column names must differ and be non-empty, got {', '.join(names)}.")
    return names


def _parse_line(
    cells: list[str], columns: tuple[str, ...], path: Path, number: int, on_finding: OnFinding
) -> CsvRow | None:
    where = f"{path}, line {number}"
    if len(cells) != len(columns):
        reason = f"has {len(cells)} cells; the header has {len(columns)} columns"
        on_finding(Finding("bad-row", path.name, reason, "Quote cells that hold a comma", where))
        return None
    return CsvRow(where, dict(zip(columns, cells, strict=True)))


COLUMNS = ("image", "mask", "label", "split", "group", "px_per_mm")

SPLITS = ("train", "val", "test")

MAX_PATH_LENGTH = 4096  # characters; systems take no more, and following it takes time

_FORBIDDEN_IN_PATH = re.compile(
    r"[\x00-\x1f\x7f\\]|^[A-Za-z]:"
)  # control characters, what Windows divides by, its drives


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


def parse_row(line: CsvRow, on_finding: OnFinding) -> Row:
    """Take a row's known columns and its extras; a scale that is none is reported and left out."""
    cells = {name: line.cells.get(name, "") for name in COLUMNS}
    extra = {name: text for name, text in line.cells.items() if name not in cells}
    px_per_mm = parse_px_per_mm(cells.pop("px_per_mm"), line.where, on_finding)
    return Row(**cells, px_per_mm=px_per_mm, extra=extra)


def parse_px_per_mm(text: str, where: str, on_finding: OnFinding = raise_finding) -> float | None:
    """Read a scale in pixels per millimeter; empty text is None."""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not (math.isfinite(value) and value > 0):
        reason = f"px_per_mm is {text!r}; expected a positive number, or nothing"
        on_finding(Finding("bad-scale", "manifest.csv", reason, "Correct it, or leave it empty", where))
        return None
    return value


def validate_path(text: str, where: str, column: str) -> str:
    """Pass on a path that is inside the root by its wording. Raises: DataError beginning with `where`."""
    if finding := _path_finding(text, where, column):
        raise_finding(finding)
    return text


def is_inside_root(path: str) -> bool:
    """Tell whether a path is inside the root by its wording; a link may still lead out of it."""
    return _path_finding(path, "", "") is None


def validate_rows(
    rows: Sequence[Row],
    places: Sequence[str],
    classes: Sequence[str],
    mask_classes: Sequence[str],
    on_finding: OnFinding,
) -> None:
    """Check what holds between rows and names. places: file and line of each row, for the reports."""
    seen: dict[str, str] = {}
    split_of_group: dict[str, str] = {}
    known = frozenset(classes)
    for row, where in zip(rows, places, strict=True):
        _validate_row(row, where, known, mask_classes, on_finding)
        if seen.setdefault(posixpath.normpath(row.image), where) != where:
            reason = f"image {row.image!r} is listed before, at {seen[posixpath.normpath(row.image)]}"
            on_finding(Finding("listed-twice", row.image, reason, "List it once", where))
        if row.group and row.split and split_of_group.setdefault(row.group, row.split) != row.split:
            reason = f"group {row.group!r} is in {split_of_group[row.group]} and {row.split}"
            on_finding(Finding("group-leak", row.image, reason, "Keep it in one split, or leave group empty", where))


def _validate_row(
    row: Row, where: str, classes: frozenset[str], mask_classes: Sequence[str], on_finding: OnFinding
) -> None:
    if finding := _path_finding(row.image, where, "image"):
        on_finding(finding)
    if row.mask:
        if finding := _path_finding(row.mask, where, "mask"):
            on_finding(finding)
        if not mask_classes:
            reason = "a mask is given, but dataset.toml names no mask_classes"
            on_finding(Finding("mask-undeclared", row.mask, reason, "Name them there", where))
    if row.label and row.label not in classes:
        reason = f"label {row.label!r} is not among the classes of dataset.toml"
        on_finding(Finding("label-unknown", row.image, reason, "Add it there", where))
    if row.split and row.split not in SPLITS:
        reason = f"split is {row.split!r}; expected {', '.join(SPLITS)} or nothing"
        on_finding(Finding("split-unknown", row.image, reason, "Correct it", where))


def _path_finding(text: str, where: str, column: str) -> Finding | None:
    if not text:
        reason = f"{column} is empty; expected a path relative to the root"
        return Finding("bad-path", "manifest.csv", reason, "Name the file", where)
    # what some systems take for another form of one letter must not lead out either
    if _escapes_root(text) or (not text.isascii() and _escapes_root(unicodedata.normalize("NFKC", text))):
        shown = text if len(text) <= MAX_PATH_LENGTH else f"{text[:80]}..."
        reason = f"{column} is {shown!r}; expected a path inside the root, with / and without `..`"
        return Finding("bad-path", shown, reason, "Copy the file into the root and name it there", where)
    return None


def _escapes_root(path: str) -> bool:
    if len(path) > MAX_PATH_LENGTH or _FORBIDDEN_IN_PATH.search(path) or path.startswith("/"):
        return True
    return ".." in path and ".." in path.split("/")
