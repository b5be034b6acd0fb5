"""A data set on disk: `manifest.csv` (one row per image) beside `dataset.toml` (names and classes)."""

import csv
import hashlib
import io
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from mnsa.data.decode import resolve_inside
from mnsa.data.findings import Finding, OnFinding, raise_finding
from mnsa.data.rows import (
    COLUMNS,
    MAX_PATH_LENGTH,
    SPLITS,
    Row,
    is_inside_root,
    parse_px_per_mm,
    parse_row,
    read_csv,
    validate_path,
    validate_rows,
)
from mnsa.errors import DataError, output_errors
from mnsa.io import new_folder, read_toml
from mnsa.structures import NO_LABEL

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Manifest",
    "Row",
    "new_dataset_folder",
    "parse_px_per_mm",
    "read_manifest",
    "scan_manifest",
    "validate_path",
    "write_manifest",
    "write_manifest_files",
]


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
        return resolve_inside(self.root, row.image)

    def mask_path(self, row: Row) -> Path:
        """Locate the mask. Raises: DataError when a link leads out of the root."""
        return resolve_inside(self.root, row.mask)

    def label_index(self, row: Row) -> int:
        """Look up the row's label in `classes`, or NO_LABEL."""
        return self._index_of_class[row.label] if row.label else NO_LABEL

    def digest(self) -> str:
        """Hash what the manifest says (SHA-256, hex): the same wherever the files lie; the pixels don't count."""
        return hashlib.sha256((_toml_text(self, root=".") + _csv_text(self.rows)).encode()).hexdigest()

    @cached_property
    def _index_of_class(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}


def read_manifest(folder: str | Path) -> Manifest:
    """Read a data set's two files; no image is touched: a manifest of 24,000 rows must load in a moment.

    Raises: DataError naming file, line and fix.
    """
    manifest, places = _read_manifest_files(Path(folder), raise_finding)
    validate_rows(manifest.rows, places, manifest.classes, manifest.mask_classes, raise_finding)
    return manifest


def scan_manifest(folder: Path) -> tuple[Manifest, list[Finding]]:
    """Read what can be read of a data set's two files, and list what `read_manifest` would refuse.

    The manifest keeps the rows whose files can be looked for, each image once. Raises: DataError when the names or the
    table as a whole can't be read, as nothing can be said of the rows then.
    """
    findings: list[Finding] = []
    manifest, places = _read_manifest_files(folder, findings.append)
    validate_rows(manifest.rows, places, manifest.classes, manifest.mask_classes, findings.append)
    kept: dict[str, Row] = {}
    for row in manifest.rows:
        if is_inside_root(row.image):
            mask = row.mask if row.mask and is_inside_root(row.mask) else ""
            kept.setdefault(posixpath.normpath(row.image), replace(row, mask=mask))
    return replace(manifest, rows=tuple(kept.values())), findings


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write a data set's two files into a new folder, which appears whole or not at all.

    Raises: DataError when the folder exists or the manifest could not be read back.
    """
    with new_dataset_folder(folder) as unfinished:
        write_manifest_files(manifest, unfinished)


def write_manifest_files(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.csv` and `dataset.toml` into `folder`, for those who fill a `new_dataset_folder` themselves."""
    if not manifest.rows:
        raise DataError(f"{manifest.name} lists no images.")
    places = [f"Row {n} ({row.image})" for n, row in enumerate(manifest.rows, 1)]
    validate_rows(manifest.rows, places, manifest.classes, manifest.mask_classes, raise_finding)
    root = "." if manifest.root == folder.resolve() else manifest.root.as_posix()
    (folder / "manifest.csv").write_text(_csv_text(manifest.rows), encoding="utf-8", newline="")
    (folder / "dataset.toml").write_text(_toml_text(manifest, root), encoding="utf-8", newline="\n")


@contextmanager
def new_dataset_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill, as `mnsa.io.new_folder` does. Raises: DataError."""
    with output_errors(folder, DataError), new_folder(folder) as temporary:
        yield temporary


def _read_manifest_files(folder: Path, on_finding: OnFinding) -> tuple[Manifest, list[str]]:
    """Read names and rows; the second is file and line of each row."""
    described = _read_dataset_toml(folder / "dataset.toml", home=folder)
    path = folder / "manifest.csv"
    columns, lines = read_csv(path, on_finding)
    if "image" not in columns:
        raise DataError(f"{path} has no column 'image'; its columns are {', '.join(columns)}.")
    if not lines:
        raise DataError(f"{path} lists no images.")
    return replace(described, rows=tuple(parse_row(line, on_finding) for line in lines)), [
        line.location for line in lines
    ]


def _read_dataset_toml(path: Path, home: Path) -> Manifest:
    try:
        tree = read_toml(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"There is no {path}, so {home} is no data set. `mnsa import` makes one.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} can't be read as TOML: {error}.") from None
    unknown = set(tree) - {"name", "root", "classes", "mask_classes"}
    if unknown:
        raise DataError(f"{path}: unknown keys {', '.join(sorted(unknown))}; valid: name, root, classes, mask_classes.")
    name, root = tree.get("name", home.resolve().name), tree.get("root", ".")
    if not isinstance(name, str) or not isinstance(root, str) or "\0" in root or len(root) > MAX_PATH_LENGTH:
        raise DataError(f"{path}: name and root must be text, and root a path.")
    classes, mask_classes = (_parse_names(tree, key, path) for key in ("classes", "mask_classes"))
    return Manifest(name, (home / root).resolve(), classes, mask_classes, rows=())


def _parse_names(tree: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = tree.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f'{path}: {key} is {names!r}; expected a list of names such as ["healthy", "rust"].')
    if len(set(names)) < len(names):
        raise DataError(f"{path}: the names in {key} must differ, got {', '.join(names)}.")
    return tuple(names)


def _csv_text(rows: tuple[Row, ...]) -> str:
    extras = sorted({name for row in rows for name in row.extra})
    lines = [(*COLUMNS, *extras), *(_row_cells(row, extras) for row in rows)]
    # csv quotes a cell for the line ends that it writes itself; read back, a bare carriage return ends a line too.
    returns = any("\r" in cell for line in lines for cell in line)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    writer.writerows(lines)
    return text.getvalue()


def _row_cells(row: Row, extras: Sequence[str]) -> tuple[str, ...]:
    scale = "" if row.px_per_mm is None else repr(row.px_per_mm)
    return row.image, row.mask, row.label, row.split, row.group, scale, *(row.extra.get(name, "") for name in extras)


def _toml_text(manifest: Manifest, root: str) -> str:
    names = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return tomli_w.dumps({"name": manifest.name, "root": root, **names})
