"""Names: those that other systems take for the same, those that are almost right, and files that nobody names."""

import os
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mnsa.data.decoding import SUFFIXES
from mnsa.data.faults import Fault
from mnsa.data.manifest import Manifest
from mnsa.data.rows import Row


def folded(name: str) -> str:
    """Reduce a name to what is left where upper and lower case, and forms of one Unicode letter, are the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def colliding_names(manifest: Manifest) -> Iterator[Fault]:
    """Report file and class names that differ in case or Unicode form alone."""
    fix = "Rename one: some systems take both for the same"
    for file, twin in _collisions(name for row in manifest.rows for name in (row.image, row.mask) if name):
        yield Fault("name-collision", file, f"differs from {twin} in case or Unicode form alone", fix)
    for names in (manifest.classes, manifest.mask_classes):
        for name, twin in _collisions(names):
            reason = f"has the classes {twin!r} and {name!r}, which differ in case or Unicode form alone"
            yield Fault("name-collision", "dataset.toml", reason, "If they are one class, merge them")


def unnamed_files(manifest: Manifest) -> Iterator[Fault]:
    """Report image files under the root that no cell of the table names; hidden ones are passed over."""
    named = {posixpath.normpath(cell) for row in manifest.rows for cell in _cells(row)}
    for folder, folders, files in os.walk(manifest.root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(files):
            path = (Path(folder) / name).relative_to(manifest.root).as_posix()
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith((".", "__")) and path not in named:
                yield Fault("unnamed-file", path, "is named by no row", "Add a row for it, or move it away")


def with_near_names(faults: Sequence[Fault], root: Path) -> Iterator[Fault]:
    """Where a file is missing, say which file of almost the same name is there instead."""
    there: dict[Path, dict[str, str]] = {}
    for fault in faults:
        path = root / fault.file
        if fault.kind == "missing":
            if path.parent not in there:
                there[path.parent] = {folded(name): name for name in _list(path.parent)}
            near = there[path.parent].get(folded(path.name))
            if near and near != path.name:
                reason = f"does not exist, but {near!a} does: the case or Unicode form differs"
                yield replace(fault, reason=reason, fix="Rename the file, or correct its row")
                continue
        yield fault


def _collisions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (twin := first.setdefault(folded(name), name)) != name:
            yield name, twin


def _cells(row: Row) -> Iterator[str]:
    yield from (cell for cell in (row.image, row.mask, *row.extra.values()) if cell)


def _list(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
