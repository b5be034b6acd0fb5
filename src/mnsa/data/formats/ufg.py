"""The UFG format: an image folder and one list of images per split. SoyAgeing has one such pair per growth stage.

Source: method.md, section 3.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mnsa.data.formats.common import build_manifest
from mnsa.data.manifest import SPLITS, Manifest, Row, validate_path
from mnsa.data.paths import list_images_to_import
from mnsa.data.rows import MAX_TABLE_BYTES
from mnsa.errors import DataError
from mnsa.io import read_text

IMAGES = "images"
LISTS = "anno"
STAGES = ("R1", "R3", "R4", "R5", "R6")  # of SoyAgeing. Folders of other sets are not pooled, as their labels differ

logger = logging.getLogger(__name__)


class _ListEntry(NamedTuple):
    """One line of a list. location: used in error messages. file: relative to images/."""

    location: str
    file: str
    label: str


def import_ufg(source: Path, *, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Read `images/<file>` and `anno/{train,val,test}.txt`, whose lines are `<file> <label>`; val.txt may be missing.

    The classes are the labels: "1", "2", ... A folder with SoyAgeing's stages R1, R3, ... is imported as one data set:
    one class per cultivar over all stages, and an extra column `stage`. Unlisted images and missing stages are left
    out, with a warning.

    Raises: DataError with list and line for a missing file, a file that is listed twice, or a label below 1.
    """
    if (source / LISTS).is_dir():
        rows = list(_read_rows(source, ""))
    elif stages := [stage for stage in STAGES if (source / stage / LISTS).is_dir()]:
        rows = [row for stage in stages for row in _read_rows(source, stage)]
        if missing := [stage for stage in STAGES if stage not in stages]:
            logger.warning(
                "%s has no stage %s; the stages %s are imported", source, ", ".join(missing), ", ".join(stages)
            )
    else:
        raise DataError(f"{source} has no folder {LISTS}. Give the folder of one set, such as data/COTTON.")
    return build_manifest(source, rows, None, val_fraction, seed)


def _read_rows(source: Path, stage: str) -> Iterator[Row]:
    """Yield the rows of one images/ and anno/, in `source` or in its folder `stage`."""
    folder = source / stage
    listed_at: dict[str, str] = {}
    for split in SPLITS:
        if split == "val" and not (folder / LISTS / "val.txt").exists():
            continue
        for location, file, label in _read_list(folder / LISTS / f"{split}.txt"):
            if listed_at.setdefault(file, location) != location:
                raise DataError(f"{location}: {file!r} is listed before, at {listed_at[file]}. List it once.")
            if not (folder / IMAGES / file).is_file():
                raise DataError(
                    f"{location}: there is no file {folder / IMAGES / file}. Restore it, or remove the line."
                )
            image = str(PurePosixPath(stage, IMAGES, file))
            yield Row(image, label=label, split=split, extra={"stage": stage} if stage else {})
    _warn_about_unlisted(folder / IMAGES, set(listed_at))


def _read_list(path: Path) -> Iterator[_ListEntry]:
    """Yield the entries `<file> <label>` of a list. The label is the last word; blank lines are skipped."""
    try:
        text = read_text(path, max_bytes=MAX_TABLE_BYTES)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Save it in UTF-8.") from None
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}. Restore it, with one line `<file> <label>` per image."
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
    unlisted = [str(file) for file in list_images_to_import(images) if str(file) not in listed]
    if unlisted:
        logger.warning("%s files of %s are in no list and are left out, such as %s", len(unlisted), images, unlisted[0])
