"""A copy of a table for spreadsheets: with a byte order mark, so that Excel reads UTF-8, and one value per cell."""

import csv
import re
from pathlib import Path

from mnsa.io import atomic_path

_TOP = re.compile(r"top(\d+)")  # a column of `class probability; class probability; ...`

_NUMBER = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")

_FORMULA_PREFIXES = ("=", "+", "@", "\t", "\r")  # a spreadsheet runs a cell that starts with one of them


def write_excel_table(table: Path, *, decimal_comma: bool = False) -> Path:
    """Write NAME-excel.csv beside a table NAME.csv, in place of an earlier one. Returns: its path.

    The column `top5` becomes class_1, probability_1, class_2, ... decimal_comma: numbers as `2,5`, and cells that are
    parted by `;`, as Excel expects them in many countries. Texts that Excel would run get an apostrophe.
    Raises: OSError when the file can't be written.
    """
    target = table.with_name(f"{table.stem}-excel.csv")
    with (
        table.open(newline="", encoding="utf-8", errors="surrogateescape") as source,
        atomic_path(target) as pending,
        pending.open("w", newline="", encoding="utf-8-sig", errors="replace") as file,
    ):
        reader = csv.reader(source)
        columns = next(reader)
        writer = csv.writer(file, delimiter=";" if decimal_comma else ",", lineterminator="\r\n")
        tops = {index: int(found[1]) for index, name in enumerate(columns) if (found := _TOP.fullmatch(name))}
        writer.writerow(
            name
            for index, column in enumerate(columns)
            for name in (_top_names(tops[index]) if index in tops else [column])
        )
        for cells in reader:
            split = [
                part
                for index, cell in enumerate(cells)
                for part in (_split_top(cell, tops[index]) if index in tops else [cell])
            ]
            writer.writerow(_format_cell(cell, decimal_comma=decimal_comma) for cell in split)
    return target


def _top_names(count: int) -> list[str]:
    return [f"{kind}_{rank}" for rank in range(1, count + 1) for kind in ("class", "probability")]


def _split_top(cell: str, count: int) -> list[str]:
    """Split `a 0.9000; b 0.1000` into class and probability, and fill up with empty cells."""
    pairs = re.findall(r"(.+?) (\d\.\d{4})(?:; |$)", cell)
    parts = [part for pair in pairs for part in pair]
    return (parts + [""] * (2 * count))[: 2 * count]


def _format_cell(cell: str, *, decimal_comma: bool) -> str:
    if decimal_comma and _NUMBER.fullmatch(cell):
        return cell.replace(".", ",")
    return f"'{cell}" if cell.startswith(_FORMULA_PREFIXES) else cell
