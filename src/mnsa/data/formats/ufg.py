"""The UFG layout: a folder of images beside lists of them, one list a split; SoyAgeing has one such pair a stage.

Source: method.md, section 3.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mnsa.data.formats.common import build_manifest
from mnsa.data.manifest import SPLITS, Manifest, Row, validate_path
from mnsa.data.paths import list_image_files
from mnsa.data.rows import MAX_TABLE_BYTES
from mnsa.errors import DataError
from mnsa.io import read_text

IMAGES = "images"
LISTS = "anno"
STAGES = ("R1", "R3", "R4", "R5", "R6")  # of SoyAgeing; no other set's folders are pooled: their labels differ

log = logging.getLogger(__name__)


class _ListEntry(NamedTuple):
    """One line of a list: `location` names it in error messages, `file` lies below images/."""

    location: str
    file: str
    label: str


def import_ufg(source: Path, *, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Read `images/<file>` and `anno/{train,val,test}.txt`, whose lines are `<file> <label>`; val.txt may be missing.

    Classes are named "1", "2", ... as the labels. A folder that holds SoyAgeing's stages R1, R3, ... gives them pooled:
    one class for a cultivar of all stages, and an extra column `stage`. Images that no list names are left out, and
    stages that are not there, with a warning that counts them.

    Raises: DataError naming list and line: a file that is not there or is listed before, a label below 1.
    """
    if (source / LISTS).is_dir():
        rows = list(_read_rows(source, ""))
    elif stages := [stage for stage in STAGES if (source / stage / LISTS).is_dir()]:
        rows = [row for stage in stages for row in _read_rows(source, stage)]
        if missing := [stage for stage in STAGES if stage not in stages]:
            log.warning("%s has no stage %s; pooled are %s", source, ", ".join(missing), ", ".join(stages))
    else:
        raise DataError(f"{source} has no folder {LISTS}. Give the folder of one set, such as data/COTTON.")
    return build_manifest(source, rows, None, val_fraction, seed)


def _read_rows(source: Path, stage: str) -> Iterator[Row]:
    """The rows of one images/ and anno/, which lie in `source`, or in its folder `stage`."""
    home = source / stage
    listed_at: dict[str, str] = {}
    for split in SPLITS:
        if split == "val" and not (home / LISTS / "val.txt").exists():
            continue
        for location, file, label in _read_list(home / LISTS / f"{split}.txt"):
            if listed_at.setdefault(file, location) != location:
                raise DataError(f"{location}: {file!r} is listed before, at {listed_at[file]}. List it once.")
            if not (home / IMAGES / file).is_file():
                raise DataError(f"{location}: there is no file {home / IMAGES / file}. Restore it, or drop the line.")
            image = str(PurePosixPath(stage, IMAGES, file))
            yield Row(image, label=label, split=split, extra={"stage": stage} if stage else {})
    _warn_about_unlisted(home / IMAGES, set(listed_at))


def _read_list(path: Path) -> Iterator[_ListEntry]:
    """The lines `<file> <label>` of a list; the label is the last word, blank lines are skipped."""
    try:
        text = read_text(path, max_bytes=MAX_TABLE_BYTES).removeprefix(
            "\ufeff"
        )  # Windows likes to write a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Save it in UTF-8.") from None
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}. Restore it: one line `<file> <label>` an image."
        ) from None
    for number, words in enumerate(text.split("\n"), 1):
        if words.strip():
            yield _parse_entry(words.strip(), f"{path}, line {number}")


def _parse_entry(words: str, location: str) -> _ListEntry:
    parts = re.fullmatch(r"(.*\S)\s+0*([1-9][0-9]{0,17})", words)
    if parts is None:
        raise DataError(f"{location} is {words!r}; expected `<file> <label>` with a label 1, 2, 3, ...")
    return _ListEntry(location, str(PurePosixPath(validate_path(parts[1], location, "file"))), parts[2])


def _warn_about_unlisted(images: Path, listed: set[str]) -> None:
    unlisted = [str(file) for file in list_image_files(images) if str(file) not in listed]
    if unlisted:
        log.warning("%s files of %s are in no list and are left out, such as %s", len(unlisted), images, unlisted[0])
