"""A CSV table of images. The caller names the columns to use; all other columns are kept as extra columns."""

import logging
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from mnsa.data.formats.common import SPLIT_ALIASES, build_manifest
from mnsa.data.formats.names import FileNames, clean_class_name
from mnsa.data.manifest import COLUMNS, Manifest, Row, parse_px_per_mm, validate_path
from mnsa.data.paths import list_images_to_import
from mnsa.data.rows import CsvRow, is_empty_word, is_inside_root, read_csv
from mnsa.errors import DataError

logger = logging.getLogger(__name__)


def import_csv(
    table: Path,
    *,
    image: str = "image",
    mask: str | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
    px_per_mm: str | None = None,
    drop_labels: Sequence[str] = (),
    mask_classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    seed: int = 1,
) -> Manifest:
    """Import a table. Paths are relative to its folder. The arguments from image to px_per_mm are names of columns.

    drop_labels: rows of these classes are left out. mask_classes: names in order of pixel value; None infers them.
    Without a split column every row is `train`. Raises: DataError with file, line and fix.
    """
    given = {"image": image, "mask": mask, "label": label, "split": split, "group": group, "px_per_mm": px_per_mm}
    key_of = {column: key for key, column in given.items() if column}
    columns, lines = read_csv(table)
    if missing := [column for column in key_of if column not in columns]:
        option = f"--{key_of[missing[0]].replace('_', '-')}"
        raise DataError(
            f"{table} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(columns)}. "
            f"Name the column, such as {option} {columns[0]!r}."
        )
    if not lines:
        raise DataError(f"{table} has no rows. Expected one for each image.")
    paths = _Paths(table.parent)
    rows = [_parse_row(line, key_of, paths) for line in lines]
    _require_different_images(rows, lines)
    if paths.missing:
        logger.warning("%s files of %s do not exist, such as %s", len(paths.missing), table, paths.missing[0])
    _require_known_labels(drop_labels, rows, table)
    _log_unlisted(table, lines, rows)
    kept = [row for row in rows if row.label not in drop_labels]
    return build_manifest(table.parent, kept, mask_classes, val_fraction, seed)


def _log_unlisted(table: Path, lines: Sequence[CsvRow], rows: Sequence[Row]) -> None:
    """Log what lies beside the images of a table, and is in none of its cells."""
    listed = {posixpath.normpath(cell) for line in lines for cell in line.cells.values() if cell}
    listed |= {path for row in rows for path in (row.image, row.mask)}  # as they are written on disk
    for folder in sorted({PurePosixPath(row.image).parent for row in rows}):
        found = [str(folder / path) for path in list_images_to_import(table.parent / folder, recursive=False)]
        if unlisted := [name for name in found if name not in listed]:
            logger.warning("%s images beside those of %s are in no row, such as %s", len(unlisted), table, unlisted[0])


class _Paths:
    """Reads the paths of a table: relative to its folder, or absolute and in it. missing: files that do not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, FileNames()
        self._prefixes = {f"{folder.absolute().as_posix()}/", f"{folder.resolve().as_posix()}/"}
        self.missing: list[str] = []

    def parse(self, text: str, location: str, column: str) -> str:
        """The path, as it is written on disk. Raises: DataError when it leads out of the folder."""
        path = validate_path(self._relative(text.strip()), location, column)
        for name in dict.fromkeys((self._relative(text), path)):  # a space may be part of a name
            if is_inside_root(name) and (found := self._files.find(self._folder, name)):
                return found
        self.missing.append(path)
        return path

    def _relative(self, text: str) -> str:
        path = text if text.startswith("\\") else text.replace("\\", "/")  # of Windows
        for prefix in self._prefixes:
            path = path.removeprefix(prefix)
        return posixpath.normpath(path) if path else path


def _parse_row(line: CsvRow, key_of: Mapping[str, str], paths: _Paths) -> Row:
    column_of = {key: column for column, key in key_of.items()}
    known = {key: line.cells[column].strip() for column, key in key_of.items()}
    known |= {key: "" for key, text in known.items() if key != "label" and is_empty_word(text)}
    extra = {_extra_name(column): text for column, text in line.cells.items() if column not in key_of}
    return Row(
        image=paths.parse(line.cells[column_of["image"]], line.location, "image"),
        mask=paths.parse(line.cells[column_of["mask"]], line.location, "mask") if known.get("mask") else "",
        label=clean_class_name(known["label"], line.location) if known.get("label") else "",
        split=_parse_split(known["split"], line.location) if "split" in known else "train",
        group=known.get("group", ""),
        px_per_mm=parse_px_per_mm(known.get("px_per_mm", ""), line.location),
        extra=extra,
    )


def _require_different_images(rows: Sequence[Row], lines: Sequence[CsvRow]) -> None:
    """Reject an image in two rows. Raises: DataError with the line."""
    first: dict[str, str] = {}
    for row, line in zip(rows, lines, strict=True):
        if (other := first.setdefault(posixpath.normpath(row.image), line.location)) != line.location:
            raise DataError(
                f"{line.location}: image {row.image!r} is listed before, in {other}. Remove one of the rows."
            )


def _extra_name(column: str) -> str:
    """Name an extra column. A name that is a column of manifest.csv gets the prefix `source_`."""
    return f"source_{column}" if column in COLUMNS else column


def _parse_split(text: str, location: str) -> str:
    if text.lower() not in {*SPLIT_ALIASES, ""}:
        raise DataError(f"{location}: split is {text!r}; expected one of {', '.join(SPLIT_ALIASES)}.")
    return SPLIT_ALIASES.get(text.lower(), "")


def _require_known_labels(drop_labels: Sequence[str], rows: Sequence[Row], table: Path) -> None:
    classes = {row.label for row in rows}
    if unknown := [label for label in drop_labels if label not in classes]:
        raise DataError(f"{table} has no class {unknown[0]!r} to drop; its classes are {', '.join(sorted(classes))}.")
