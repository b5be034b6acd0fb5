"""The rows of a manifest: read from CSV, parsed and validated. No image file is opened.

Functions that take `on_finding` report problems to it: `raise_finding` stops at the first, a list's `append` collects
all.
"""

import codecs
import csv
import io
import math
import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mnsa.data.findings import Finding, OnFinding, raise_finding
from mnsa.errors import DataError
from mnsa.io import open_regular_file

COLUMNS = ("image", "mask", "label", "split", "group", "px_per_mm")

SPLITS = ("train", "val", "test")

MAX_PATH_LENGTH = 4096  # characters; operating systems allow no more

MAX_TABLE_BYTES = 1 << 28  # a million rows need about 100 million bytes

MAX_COLUMNS = 200

# Control characters, the path separator of Windows, and its drive letters.
_FORBIDDEN_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")


_PANDAS_INDEX = re.compile(r"Unnamed: \d+")  # a column without a name that was read and written again

SCALES = (1e-6, 1e6)  # pixels per millimeter: of a satellite's image, and of 1 nm per pixel

# Words of splits and of folders of images or masks: a class of such a name is probably a folder that was read wrongly.
_MASK_WORDS = frozenset({"mask", "masks", "annotation", "annotations", "groundtruth", "truth", "segmentation"})
_LAYOUT_WORDS = _MASK_WORDS | {
    "image", "images", "img", "imgs", "label", "labels", "gt", "seg",
    "train", "training", "val", "valid", "validation", "dev", "test", "testing",
}  # fmt: skip
_FILL_WORDS = frozenset({"set", "sets", "data", "dataset", "folder", "files", "jpeg", "jpg", "png", "tr", "ts"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")  # of `train_images`, `JPEGImages`, `labelsTr`

_EMPTY_WORDS = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null", "none"})  # of spreadsheets, pandas, R and Python


class CsvRow(NamedTuple):
    """One row of a CSV file. location: file and line, for error messages. cells: column name -> text."""

    location: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a data set. An empty text means unknown. Paths are POSIX, relative to the manifest's root.

    split: `train`, `val`, `test`, or empty for an unused image. group: images of one plant share a group, and a group
    is never divided between splits. px_per_mm: scale in pixels per millimeter. extra: all other columns, as text.
    """

    image: str
    mask: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    px_per_mm: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)


def is_layout_word(name: str) -> bool:
    """Whether a class has the name of a split, or of a folder of images or masks, such as `Test` or `train_images`.

    Numbers and single letters make no difference (`train2017`, `trainA`). One word for masks is enough.
    """
    words = {word.lower() for word in _WORD.findall(name)}
    others = words - _LAYOUT_WORDS - _FILL_WORDS
    return not words.isdisjoint(_MASK_WORDS) or (
        not words.isdisjoint(_LAYOUT_WORDS) and all(len(word) == 1 for word in others)
    )


def is_empty_word(name: str) -> bool:
    """Whether a cell has the text that programs write for an empty cell."""
    return name.lower() in _EMPTY_WORDS


def read_csv(path: Path, on_finding: OnFinding = raise_finding) -> tuple[tuple[str, ...], list[CsvRow]]:
    """Read the column names and rows of a CSV file, separated by commas, `;` or tabs. Blank rows are skipped.

    Columns without a name are left out. Excel's line `sep=;` and its UTF-16 text are read.
    on_finding: gets a finding for each row with a wrong number of cells; the row is then skipped.
    Raises: DataError with the file, and the line if there is one.
    """
    try:
        with open_regular_file(path, max_bytes=MAX_TABLE_BYTES) as file:
            text = io.TextIOWrapper(file, encoding=_find_encoding(file, path), newline="")
            first = text.readline()
            if not first.startswith("sep="):
                text.seek(0)
            # Spreadsheets of many countries write `;`. A header without a comma has one column or another delimiter.
            others = [mark for mark in ";\t" if mark in first and "," not in first]
            reader = csv.reader(text, strict=True, delimiter=others[0] if others else ",")
            columns, indices = _parse_header(next(reader, []), path)
            rows = (
                _parse_cells(cells, columns, indices, path, reader.line_num, on_finding)
                for cells in reader
                if len(cells) == 1 or any(cell.strip() for cell in cells)
            )
            return columns, [row for row in rows if row]
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Save it as `CSV UTF-8`.") from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} can't be read as CSV: {error}. Save it again as `CSV UTF-8`.") from None


def _find_encoding(file: BinaryIO, path: Path) -> str:
    """The encoding of a table by its first bytes. Raises: DataError for a workbook."""
    head = file.read(4)
    file.seek(0)
    if head in (b"PK\3\4", b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{path} is a workbook of a spreadsheet program, or a zip file. Save it as `CSV UTF-8`.")
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be" if head[:1] == b"\0" else "utf-8-sig"


def parse_row(row: CsvRow, on_finding: OnFinding) -> Row:
    """Convert a CSV row to a Row. An invalid scale is reported and becomes None."""
    cells = {name: row.cells.get(name, "") for name in COLUMNS}
    extra = {name: text for name, text in row.cells.items() if name not in cells}
    px_per_mm = parse_px_per_mm(cells.pop("px_per_mm"), row.location, on_finding)
    return Row(**cells, px_per_mm=px_per_mm, extra=extra)


def parse_px_per_mm(text: str, location: str, on_finding: OnFinding = raise_finding) -> float | None:
    """Parse a scale in pixels per millimeter; an empty text is None. An invalid one is reported and becomes None.

    A comma is read as a decimal comma.
    """
    try:
        value = float(text.replace(",", ".")) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not SCALES[0] <= value <= SCALES[1]:
        reason = f"px_per_mm is {text!r}; expected a number such as 11.8 (from 1e-6 to 1e6), or an empty cell"
        on_finding(Finding("bad-scale", "manifest.csv", reason, "Correct it, or leave it empty", location))
        return None
    return value


def validate_path(text: str, location: str, column: str) -> str:
    """Return a path if its text stays inside the root; links are not followed. Raises: DataError with the location."""
    if finding := _path_finding(text, location, column):
        raise_finding(finding)
    return text


def is_inside_root(path: str) -> bool:
    """Whether the text of a path stays inside the root. A link on the way may still point outside."""
    return _path_finding(path, "", "") is None


def validate_rows(
    rows: Sequence[Row],
    locations: Sequence[str],
    classes: Sequence[str],
    mask_classes: Sequence[str],
    on_finding: OnFinding,
) -> None:
    """Validate rows, one by one and together. locations: file and line of each row, for messages."""
    first_location: dict[str, str] = {}
    split_of_group: dict[str, str] = {}
    known_classes = frozenset(classes)
    for row, location in zip(rows, locations, strict=True):
        _validate_row(row, location, known_classes, mask_classes, on_finding)
        first = first_location.setdefault(posixpath.normpath(row.image), location)
        if first != location:
            reason = f"image {row.image!r} is listed before, at {first}"
            on_finding(Finding("listed-twice", row.image, reason, "Remove one of the two rows", location))
        if row.group and row.split and split_of_group.setdefault(row.group, row.split) != row.split:
            reason = f"group {row.group!r} is in {split_of_group[row.group]} and {row.split}"
            fix = "Move the group to one split, or leave group empty"
            on_finding(Finding("group-leak", row.image, reason, fix, location))


def _parse_header(cells: list[str], path: Path) -> tuple[tuple[str, ...], list[int]]:
    """Get the column names and their indices, without the columns that have no name.

    pandas writes its index into a first column without a name, and spreadsheets write empty columns at the end.
    """
    indices = [index for index, name in enumerate(cells) if name.strip() and not _PANDAS_INDEX.fullmatch(name)]
    names = tuple(cells[index].strip() for index in indices)
    if not names:
        raise DataError(f"{path} is empty. Expected a header line with column names.")
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; the limit is {MAX_COLUMNS}. Remove some.")
    if len(set(names)) < len(names) or indices[0] > 1 or indices[-1] - indices[0] >= len(names):
        raise DataError(f"{path}: column names must be different and not empty, got {', '.join(cells)}.")
    return names, indices


def _parse_cells(
    cells: list[str], columns: tuple[str, ...], indices: list[int], path: Path, line: int, on_finding: OnFinding
) -> CsvRow | None:
    location = f"{path}, line {line}"
    if len(cells) <= indices[-1] or any(cells[indices[-1] + 1 :]):
        reason = f"has {len(cells)} cells; the header has {len(columns)} columns"
        on_finding(Finding("bad-row", path.name, reason, "Quote cells that contain a comma", location))
        return None
    return CsvRow(location, {name: cells[index] for name, index in zip(columns, indices, strict=True)})


def _validate_row(
    row: Row, location: str, classes: frozenset[str], mask_classes: Sequence[str], on_finding: OnFinding
) -> None:
    if finding := _path_finding(row.image, location, "image"):
        on_finding(finding)
    if row.mask:
        if finding := _path_finding(row.mask, location, "mask"):
            on_finding(finding)
        if not mask_classes:
            reason = "the row has a mask, but dataset.toml has no mask_classes"
            on_finding(Finding("mask-undeclared", row.mask, reason, "Name the mask classes there", location))
    if row.label and row.label not in classes:
        reason = f"label {row.label!r} is not in the classes of dataset.toml"
        on_finding(Finding("label-unknown", row.image, reason, "Add it there, or correct the label", location))
    if row.split and row.split not in SPLITS:
        reason = f"split is {row.split!r}; expected {', '.join(SPLITS)} or an empty cell"
        on_finding(Finding("split-unknown", row.image, reason, "Correct it", location))


def _path_finding(text: str, location: str, column: str) -> Finding | None:
    if not text:
        reason = f"{column} is empty; expected a path relative to the root"
        return Finding("bad-path", "manifest.csv", reason, "Write the path of the file", location)
    # Some file systems normalize Unicode, so the normalized path must stay inside too.
    if _escapes_root(text) or (not text.isascii() and _escapes_root(unicodedata.normalize("NFKC", text))):
        shown = text if len(text) <= MAX_PATH_LENGTH else f"{text[:80]}..."
        reason = f"{column} is {shown!r}; expected a path inside the root, with `/` and without `..`"
        return Finding("bad-path", shown, reason, "Copy the file into the root and use its path there", location)
    return None


def _escapes_root(path: str) -> bool:
    if len(path) > MAX_PATH_LENGTH or _FORBIDDEN_IN_PATH.search(path) or path.startswith("/"):
        return True
    return ".." in path and ".." in path.split("/")
