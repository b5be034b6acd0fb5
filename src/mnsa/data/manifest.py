"""A data set on disk: `manifest.csv` (one row per image) and `dataset.toml` (name, root, classes, mask classes)."""

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

from mnsa.data.decode import BadFileError, bad_file_error
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
from mnsa.data.splits import hold_out
from mnsa.errors import DataError, output_errors
from mnsa.io import atomic_write_text, new_folder, read_toml
from mnsa.structures import NO_LABEL, UNKNOWN

__all__ = [
    "COLUMNS",
    "SPLITS",
    "Manifest",
    "Row",
    "hold_out_test",
    "new_dataset_folder",
    "parse_px_per_mm",
    "read_manifest",
    "resolve_inside",
    "scan_manifest",
    "validate_path",
    "write_manifest",
    "write_manifest_files",
]

_TOML_KEYS = ("name", "root", "classes", "mask_classes")


@dataclass(frozen=True)
class Manifest:
    """The content of a data set.

    root: absolute path that the paths of the rows are relative to. classes: names of the labels. mask_classes: names of
    the mask classes. Empty: no masks. One name: pixel 0 is background, 1 or 255 is the class. M names: pixel = index.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    rows: tuple[Row, ...]

    def split(self, name: str) -> "Manifest":
        """Return the manifest with the rows of one split only."""
        return replace(self, rows=tuple(row for row in self.rows if row.split == name))

    def image_path(self, row: Row) -> Path:
        """Return the absolute path of the image. Raises: DataError when a link points out of the root."""
        return resolve_inside(self.root, row.image)

    def mask_path(self, row: Row) -> Path:
        """Return the absolute path of the mask. Raises: DataError when a link points out of the root."""
        return resolve_inside(self.root, row.mask)

    def label_index(self, row: Row) -> int:
        """Return the index of the row's label in `classes`, or NO_LABEL."""
        return self._class_index[row.label] if row.label else NO_LABEL

    def digest(self) -> str:
        """Return the SHA-256 of the two files' content, in hex. The root and the image files are not included."""
        return hashlib.sha256((_toml_text(self, root=".") + _csv_text(self.rows)).encode()).hexdigest()

    @cached_property
    def _class_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}


def resolve_inside(root: Path, relative: str) -> Path:
    """Follow the links of a path below the root. Raises: BadFileError when the target is outside, or a link is broken.

    root: absolute and resolved.
    """
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError):  # links that point to each other
        raise bad_file_error(root / relative, "missing", "is a broken link") from None
    if not path.is_relative_to(root):
        reason, fix = f"is a link to {path}, outside the data set's root {root}", "Copy the file into the root"
        raise BadFileError(f"{relative} {reason}. {fix}.", kind="outside-root", reason=reason, fix=fix)
    return path


def read_manifest(folder: str | Path) -> Manifest:
    """Read and validate the two files of a data set. No image is opened, so 24,000 rows load in a moment.

    Raises: DataError with file, line and fix.
    """
    manifest, locations = _read_files(Path(folder), raise_finding)
    validate_rows(manifest.rows, locations, manifest.classes, manifest.mask_classes, raise_finding)
    return manifest


def scan_manifest(folder: Path) -> tuple[Manifest, list[Finding]]:
    """Read the two files of a data set as far as possible.

    Returns: a manifest of the rows whose paths are inside the root, each image once, and everything that
    `read_manifest` refuses. Raises: DataError when dataset.toml, or the table as a whole, can't be read.
    """
    findings: list[Finding] = []
    manifest, locations = _read_files(folder, findings.append)
    validate_rows(manifest.rows, locations, manifest.classes, manifest.mask_classes, findings.append)
    usable: dict[str, Row] = {}
    for row in manifest.rows:
        if is_inside_root(row.image):
            mask = row.mask if row.mask and is_inside_root(row.mask) else ""
            usable.setdefault(posixpath.normpath(row.image), replace(row, mask=mask))
    return replace(manifest, rows=tuple(usable.values())), findings


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the two files of a data set into a new folder; on an error there is no folder.

    Raises: DataError when the folder exists, or when the rows are invalid.
    """
    with new_dataset_folder(folder) as temporary:
        write_manifest_files(manifest, temporary)


def hold_out_test(folder: Path, fraction: float, *, seed: int) -> Manifest:
    """Move a fraction of all images of a data set from train to test, in its folder. Returns: the data set.

    Raises: DataError when train has too few images; the data set is then as it was.
    """
    manifest = read_manifest(folder)
    train = sum(row.split == "train" for row in manifest.rows)
    part = fraction * len(manifest.rows) / max(train, 1)
    rows = hold_out(manifest.rows, source="train", target="test", fraction=part, seed=seed) if part < 1 else ()
    if not any(row.split == "test" for row in rows):
        raise DataError(
            f"{folder} was written, but its {train} training images are too few for a test split of {fraction:g}. "
            f"Make one with: mnsa split {folder} --val-fraction 0.2 --test-fraction {fraction:g} --out {folder}-split"
        )
    atomic_write_text(folder / "manifest.csv", _csv_text(rows))
    return read_manifest(folder)


def write_manifest_files(manifest: Manifest, folder: Path) -> None:
    """Write the two files of a data set into an existing folder, each in one step. Raises: DataError, OSError."""
    if not manifest.rows:
        raise DataError(f"{manifest.name} has no images.")
    _require_no_reserved_name(manifest.classes, manifest.name)
    for key in ("classes", "mask_classes"):
        _require_different_names(getattr(manifest, key), key, manifest.name)
    locations = [f"Row {n} ({row.image})" for n, row in enumerate(manifest.rows, 1)]
    validate_rows(manifest.rows, locations, manifest.classes, manifest.mask_classes, raise_finding)
    root = "." if manifest.root == folder.resolve() else manifest.root.as_posix()
    texts = {"manifest.csv": _csv_text(manifest.rows), "dataset.toml": _toml_text(manifest, root)}
    for name, text in texts.items():
        try:
            atomic_write_text(folder / name, text)
        except UnicodeEncodeError as error:
            shown = ascii(text[max(error.start - 40, 0) : error.end + 20])
            raise DataError(f"{str(manifest.root)!a}: {shown} is not UTF-8. Rename the file or folder.") from None


@contextmanager
def new_dataset_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill, as `mnsa.io.new_folder` does. Raises: DataError."""
    with output_errors(folder, DataError), new_folder(folder) as temporary:
        yield temporary


def _read_files(folder: Path, on_finding: OnFinding) -> tuple[Manifest, list[str]]:
    """Read the two files: a manifest that is not validated, and file and line of each row."""
    without_rows = _read_dataset_toml(folder / "dataset.toml", folder)
    path = folder / "manifest.csv"
    columns, csv_rows = read_csv(path, on_finding)
    if "image" not in columns:
        raise DataError(f"{path} has no column 'image'; its columns are {', '.join(columns)}.")
    if not csv_rows:
        raise DataError(f"{path} has no rows.")
    rows = tuple(parse_row(row, on_finding) for row in csv_rows)
    return replace(without_rows, rows=rows), [row.location for row in csv_rows]


def _read_dataset_toml(path: Path, folder: Path) -> Manifest:
    if folder.is_file():
        raise DataError(f"{folder} is a file. Give the folder of the data set: {folder.parent}.")
    try:
        tree = read_toml(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"There is no {path}, so {folder} is no data set. Create one with `mnsa import`; from class folders of "
            f"photos: mnsa import folders {folder} --out NEW."
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} can't be read as TOML: {error}. Correct this place, and save it as UTF-8.") from None
    if unknown := set(tree) - set(_TOML_KEYS):
        raise DataError(f"{path}: unknown keys {', '.join(sorted(unknown))}; valid: {', '.join(_TOML_KEYS)}.")
    name, root = tree.get("name", folder.resolve().name), tree.get("root", ".")
    if not isinstance(name, str) or not isinstance(root, str) or "\0" in root or len(root) > MAX_PATH_LENGTH:
        raise DataError(f"{path}: name and root must be text, and root a path.")
    classes, mask_classes = (_parse_names(tree, key, path) for key in ("classes", "mask_classes"))
    _require_no_reserved_name(classes, str(path))
    return Manifest(name, (folder / root).resolve(), classes, mask_classes, rows=())


def _require_no_reserved_name(classes: Sequence[str], location: str) -> None:
    """Reject a class named like the answer for images of no class. Raises: DataError."""
    if reserved := [name for name in classes if name.lower() == UNKNOWN]:
        raise DataError(
            f"{location}: a class can't be named {reserved[0]!r}: predictions below the threshold have this name. "
            "Rename the class, for example to 'other', or leave the label of these images empty."
        )


def _parse_names(tree: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = tree.get(key, [])
    if not isinstance(names, list):
        raise DataError(f'{path}: {key} is {names!r}; expected a list of names such as ["healthy", "rust"].')
    _require_different_names(names, key, str(path))
    return tuple(names)


def _require_different_names(names: Sequence[object], key: str, location: str) -> None:
    """Reject names that are empty, no text, or equal. Raises: DataError."""
    if not all(isinstance(name, str) and name for name in names):
        raise DataError(f'{location}: {key} is {list(names)!r}; expected a list of names such as ["healthy", "rust"].')
    if len(set(names)) < len(names):
        raise DataError(f"{location}: the names in {key} must be different, got {', '.join(map(str, names))}.")


def _csv_text(rows: Sequence[Row]) -> str:
    extra_columns = sorted({name for row in rows for name in row.extra})
    lines = [(*COLUMNS, *extra_columns), *(_cells(row, extra_columns) for row in rows)]
    # The writer quotes cells with \n, its line end, but not cells with \r, which ends a line when it is read.
    has_returns = any("\r" in cell for line in lines for cell in line)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL)
    writer.writerows(lines)
    return text.getvalue()


def _cells(row: Row, extra_columns: Sequence[str]) -> tuple[str, ...]:
    scale = "" if row.px_per_mm is None else repr(row.px_per_mm)
    extra = (row.extra.get(name, "") for name in extra_columns)
    return row.image, row.mask, row.label, row.split, row.group, scale, *extra


def _toml_text(manifest: Manifest, root: str) -> str:
    names = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return tomli_w.dumps({"name": manifest.name, "root": root, **names})
