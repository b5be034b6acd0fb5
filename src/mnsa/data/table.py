"""CSV files with a header line, read with the line number of every row."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mnsa.data.faults import Fault, OnFault, refuse
from mnsa.errors import DataError
from mnsa.text_files import open_plain

MOST_BYTES = 1 << 28  # a million rows have about 100 million
MOST_COLUMNS = 200


class Line(NamedTuple):
    """One row of a table: `where` names file and line for error messages, `cells` maps column to text."""

    where: str
    cells: Mapping[str, str]


def read_table(path: Path, on_fault: OnFault = refuse) -> tuple[tuple[str, ...], list[Line]]:
    """Column names and lines of a CSV file; blank lines are skipped, and so are lines of another width, once reported.

    Raises: DataError naming the file, and the line where there is one.
    """
    try:
        with open_plain(path, most_bytes=MOST_BYTES) as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")  # spreadsheets write a byte order mark
            reader = csv.reader(text, strict=True)
            columns = _header(next(reader, []), path)
            lines = (_line(cells, columns, path, reader.line_num, on_fault) for cells in reader if cells)
            return columns, [line for line in lines if line]
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Save it as CSV in UTF-8.") from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} can't be read as CSV: {error}.") from None


def _header(columns: list[str], path: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in columns)
    if not names:
        raise DataError(f"{path} is empty. Expected a header line with column names.")
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{path} has {len(names):,} columns; at most {MOST_COLUMNS} are read. Take some out.")
    if len(set(names)) < len(names) or "" in names:
        raise DataError(f"{path}: column names must differ and be non-empty, got {', '.join(names)}.")
    return names


def _line(cells: list[str], columns: tuple[str, ...], path: Path, number: int, on_fault: OnFault) -> Line | None:
    where = f"{path}, line {number}"
    if len(cells) != len(columns):
        reason = f"has {len(cells)} cells; the header has {len(columns)} columns"
        on_fault(Fault("bad-row", path.name, reason, "Quote cells that hold a comma", where))
        return None
    return Line(where, dict(zip(columns, cells, strict=True)))
