"""A data set on disk: `manifest.csv` (one row per image) beside `dataset.toml` (names and classes)."""

import csv
import hashlib
import io
import math
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import Any

import tomli_w

from mnsa.data.table import Line, read_table
from mnsa.errors import DataError
from mnsa.records import NO_LABEL

COLUMNS = ("image", "mask", "label", "split", "group", "px_per_mm")
SPLITS = ("train", "val", "test")


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


@dataclass(frozen=True)
class Manifest:
    """What the data is. root: absolute; where the paths start.

    mask_classes: () no masks; one name: pixel 0 is background, 1 or 255 the class; more: pixel value = index.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    rows: tuple[Row, ...]

    def split(self, name: str) -> "Manifest":
        """Keep the rows of one split only."""
        return replace(self, rows=tuple(row for row in self.rows if row.split == name))

    def image_path(self, row: Row) -> Path:
        """Locate the image. Raises: DataError when a link leads out of the root."""
        return _resolve_inside(self.root, row.image)

    def mask_path(self, row: Row) -> Path:
        """Locate the mask. Raises: DataError when a link leads out of the root."""
        return _resolve_inside(self.root, row.mask)

    def label_index(self, row: Row) -> int:
        """Look up the row's label in `classes`, or NO_LABEL."""
        return self._index_of_class[row.label] if row.label else NO_LABEL

    def digest(self) -> str:
        """Hash what the manifest says (SHA-256, hex): the same wherever the files lie; the pixels don't count."""
        return hashlib.sha256((_toml_text(self, root=".") + _csv_text(self.rows)).encode()).hexdigest()

    @cached_property
    def _index_of_class(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}


def read_manifest(folder: Path) -> Manifest:
    """Read a data set's two files; no image is touched.

    Raises: DataError naming file, line and fix.
    """
    described = _read_description(folder / "dataset.toml", home=folder)
    path = folder / "manifest.csv"
    columns, lines = read_table(path)
    if "image" not in columns:
        raise DataError(f"{path} has no column 'image'; its columns are {', '.join(columns)}.")
    manifest = replace(described, rows=tuple(_parse_row(line) for line in lines))
    _check_rows(manifest, [line.where for line in lines], source=str(path))
    return manifest


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write a data set's two files into a new folder, which appears whole or not at all.

    Raises: DataError when the folder exists or the manifest could not be read back.
    """
    with fresh_folder(folder) as unfinished:
        write_files(manifest, unfinished)


def write_files(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.csv` and `dataset.toml` into `folder`, for those who fill a `fresh_folder` themselves."""
    _check_rows(manifest, [f"Row {n} ({row.image})" for n, row in enumerate(manifest.rows, 1)], source=manifest.name)
    root = "." if manifest.root == folder.resolve() else manifest.root.as_posix()
    (folder / "manifest.csv").write_text(_csv_text(manifest.rows), encoding="utf-8", newline="")
    (folder / "dataset.toml").write_text(_toml_text(manifest, root), encoding="utf-8", newline="\n")


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """Make a hidden sibling to fill, renamed to `folder` on success and removed on failure.

    Raises: DataError when `folder` exists or can't be made.
    """
    if folder.exists() or folder.is_symlink():
        raise DataError(f"{folder} exists already and is left as it is. Choose another folder, or remove it first.")
    unfinished = folder.with_name(f".{folder.name}.{token_hex(4)}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(folder)
    except OSError as error:
        raise DataError(f"{folder} can't be written: {error}. Choose a folder that can be.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read_description(path: Path, home: Path) -> Manifest:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"There is no {path}, so {home} is no data set. `mnsa import` makes one.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} can't be read as TOML: {error}.") from None
    unknown = set(tree) - {"name", "root", "classes", "mask_classes"}
    if unknown:
        raise DataError(f"{path}: unknown keys {', '.join(sorted(unknown))}; valid: name, root, classes, mask_classes.")
    name, root = tree.get("name", home.resolve().name), tree.get("root", ".")
    if not isinstance(name, str) or not isinstance(root, str):
        raise DataError(f"{path}: name and root must be text.")
    classes, mask_classes = (_names(tree, key, path) for key in ("classes", "mask_classes"))
    return Manifest(name, (home / root).resolve(), classes, mask_classes, rows=())


def _names(tree: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = tree.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f'{path}: {key} is {names!r}; expected a list of names such as ["healthy", "rust"].')
    if len(set(names)) < len(names):
        raise DataError(f"{path}: the names in {key} must differ, got {', '.join(names)}.")
    return tuple(names)


def _parse_row(line: Line) -> Row:
    cells = {name: line.cells.get(name, "") for name in COLUMNS}
    extra = {name: text for name, text in line.cells.items() if name not in cells}
    px_per_mm = parse_px_per_mm(cells.pop("px_per_mm"), line.where)
    return Row(**cells, px_per_mm=px_per_mm, extra=extra)


def parse_px_per_mm(text: str, where: str) -> float | None:
    """Read a scale in pixels per millimetre; empty text is None. Raises: DataError beginning with `where`."""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: px_per_mm is {text!r}; expected a positive number, or nothing.")
    return value


def _check_rows(manifest: Manifest, places: list[str], source: str) -> None:
    """Check what holds between rows and names. No file is touched: a manifest of 24,000 rows must load in a moment."""
    if not manifest.rows:
        raise DataError(f"{source} lists no images.")
    classes = set(manifest.classes)
    seen: dict[str, str] = {}
    split_of_group: dict[str, str] = {}
    for row, where in zip(manifest.rows, places, strict=True):
        checked_path(row.image, where, "image")
        if row.mask:
            checked_path(row.mask, where, "mask")
            if not manifest.mask_classes:
                raise DataError(f"{where}: a mask is given, but dataset.toml names no mask_classes. Name them there.")
        if row.label and row.label not in classes:
            raise DataError(f"{where}: label {row.label!r} is not among the classes of dataset.toml. Add it there.")
        if row.split and row.split not in SPLITS:
            raise DataError(f"{where}: split is {row.split!r}; expected {', '.join(SPLITS)} or nothing.")
        if seen.setdefault(row.image, where) != where:
            raise DataError(f"{where}: image {row.image!r} is listed before, at {seen[row.image]}. List it once.")
        if row.group and row.split and split_of_group.setdefault(row.group, row.split) != row.split:
            both = f"{split_of_group[row.group]} and {row.split}"
            raise DataError(f"{where}: group {row.group!r} is in {both}. Keep it in one split, or leave group empty.")


def checked_path(text: str, where: str, column: str) -> str:
    """Pass on a path that is inside the root by its wording. Raises: DataError beginning with `where`."""
    if not text:
        raise DataError(f"{where}: {column} is empty; expected a path relative to the root.")
    if text.startswith("/") or "\\" in text or "\0" in text or ".." in text.split("/"):
        raise DataError(f"{where}: {column} is {text!r}; expected a path inside the root, with / and without ..")
    return text


def _resolve_inside(root: Path, relative: str) -> Path:
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise DataError(f"{relative} leads to {path}, outside the data set's root {root}. Copy the file into the root.")
    return path


def _csv_text(rows: tuple[Row, ...]) -> str:
    extras = sorted({name for row in rows for name in row.extra})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *extras))
    for row in rows:
        scale = "" if row.px_per_mm is None else repr(row.px_per_mm)
        known = (row.image, row.mask, row.label, row.split, row.group, scale)
        writer.writerow((*known, *(row.extra.get(name, "") for name in extras)))
    return text.getvalue()


def _toml_text(manifest: Manifest, root: str) -> str:
    names = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return tomli_w.dumps({"name": manifest.name, "root": root, **names})
