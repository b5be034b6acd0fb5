"""Images that are added to a finished folder of predictions: only they are predicted, and join the table at its end.

The rows of the finished table become a part, as if a process had just written them, and the table moves into parts/ as
`earlier.csv`. From then on the folder is one that was interrupted. Images that failed are tried again.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mnsa.batch.prediction_folder import (
    Origin,
    PredictionFolder,
    completion_lock,
    is_prediction_folder,
    read_prediction_table,
)
from mnsa.data.image_source import ImageSource, PixelImage, to_source
from mnsa.io import atomic_path, read_json, write_json


class ImageList(NamedTuple):
    """The images of a folder in the order of its table. added: the number of images before each addition."""

    images: Sequence[ImageSource]
    added: Sequence[int] = ()

    def describe(self) -> Origin:
        """What predictions.json records of the list."""
        added = {"added": list(self.added)} if self.added else {}
        return {"images": len(self.images), "list of images": image_list_digest(self.images), **added}


def add_images(path: Path, images: Sequence[ImageSource], options: Origin) -> ImageList:
    """Join the images of a finished folder and those that are new, for which the folder is opened again.

    options: what the predictions depend on besides the images. Returns: the images alone where the folder is another,
    is not finished, or has other options. Images in memory are not added: their names say nothing about their pixels.
    """
    folder = PredictionFolder(path)
    if not is_prediction_folder(path) or any(isinstance(image, PixelImage) for image in images):
        return ImageList(images)
    with completion_lock(folder):
        origin = _read_origin(folder)
        table = folder.table if folder.table.exists() else folder.earlier_table
        if not table.exists() or any(origin.get(name) != value for name, value in options.items()):
            return ImageList(images)
        rows = list(read_prediction_table(table))
        known = {row["image"] for row in rows}
        new = [image for image in images if str(image) not in known]
        added = [count for count in origin.get("added", ()) if count < len(rows)] + ([len(rows)] if new else [])
        joined = ImageList([*(to_source(row["image"]) for row in rows), *new], added)
        if new and table == folder.table:
            _reopen(folder, rows, {**options, **joined.describe()})
    return joined


def image_list_digest(images: Sequence[ImageSource]) -> str:
    """Hash the paths of the images in order, and the pixels of those in memory (SHA-256)."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(os.fsencode(str(image)) + b"\0")
        if isinstance(image, PixelImage):
            digest.update(repr(image.image.size).encode() + image.image.tobytes())
    return digest.hexdigest()


def _reopen(folder: PredictionFolder, rows: Sequence[Mapping[str, str]], origin: Origin) -> None:
    """Turn the table into a part. The table is moved last: a process that is killed before has changed nothing."""
    folder.parts.mkdir(exist_ok=True)
    with atomic_path(folder.parts / "earlier.jsonl") as pending, pending.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps([index, row]) + "\n" for index, row in enumerate(rows) if not row["error"])
    write_json(folder.origin_file, dict(origin))
    folder.table.replace(folder.earlier_table)


def _read_origin(folder: PredictionFolder) -> dict[str, Any]:
    with suppress(ValueError, OSError):
        origin = read_json(folder.origin_file)
        return origin if isinstance(origin, dict) else {}
    return {}
