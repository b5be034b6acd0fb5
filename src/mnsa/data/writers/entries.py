"""The rows of a data set under names that any layout can bear: one flat stem each."""

import json
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from mnsa.data.decoding import bad_file
from mnsa.data.images import read_mask
from mnsa.data.layouts.pictures import upright_size
from mnsa.data.manifest import Manifest, Row


class Entry(NamedTuple):
    """A row and the stem of its files; no two stems are alike, not even where upper and lower case are the same."""

    row: Row
    stem: str


def entries_of(manifest: Manifest) -> list[Entry]:
    """Name each image by its own stem, or by its whole path when another has the same."""
    stems = Counter(_folded(_safe(PurePosixPath(row.image).stem)) for row in manifest.rows)
    taken: set[str] = set()
    entries = []
    for row in manifest.rows:
        path = PurePosixPath(row.image)
        stem = _safe(path.stem)
        if stems[_folded(stem)] > 1:
            stem = _safe("_".join(part for part in path.with_suffix("").parts))
        while _folded(stem) in taken:
            stem += "_"
        taken.add(_folded(stem))
        entries.append(Entry(row, stem))
    return entries


def mask_of(manifest: Manifest, row: Row) -> np.ndarray | None:
    """Read a row's mask: class indices, uint8 (H, W). Raises: DataError when it isn't of its image's size."""
    if not row.mask:
        return None
    path = manifest.mask_path(row)
    mask: np.ndarray = read_mask(path, len(manifest.mask_classes)).numpy()
    if mask.shape != (expected := upright_size(manifest.image_path(row))):
        sizes = f"is {mask.shape[1]} x {mask.shape[0]} pixels, but its image is {expected[1]} x {expected[0]}"
        raise bad_file(path, "mask-size", sizes, "Make the mask anew at the image's own size")
    return mask


def write_json(tree: Any, path: Path) -> None:
    """Write a tree as JSON that any reader takes."""
    path.write_text(json.dumps(tree, ensure_ascii=True, allow_nan=False), encoding="utf-8", newline="\n")


def _safe(stem: str) -> str:
    """Replace what other tools stumble over: blanks part the cells of a line, and some names hold more than text."""
    return "".join(char if char.isalnum() or char in "-_.+()" else "_" for char in stem).strip(".") or "_"


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
