"""nnU-Net, version 2: PNGs in imagesTr, labelsTr, imagesTs and labelsTs; dataset.json; splits_final.json."""

import re
from pathlib import Path

from PIL import Image

from mnsa.data.importers.nnunet import IGNORE
from mnsa.data.layouts.classes import BACKGROUND, foreground
from mnsa.data.layouts.facts import KEY, facts_tree
from mnsa.data.layouts.pictures import write_png
from mnsa.data.manifest import Manifest
from mnsa.data.writers.entries import Entry, mask_of, write_json
from mnsa.errors import DataError

_PART = {"train": "Tr", "val": "Tr", "test": "Ts", "": "Tr"}


def require_nnunet(manifest: Manifest, out: Path) -> None:
    """Raises: DataError for a folder's name, a class or a row that nnU-Net doesn't know what to do with."""
    if not re.fullmatch(r"Dataset\d{3}_\w+", out.name, re.ASCII):
        raise DataError(
            f"{out.name} is no name for nnU-Net; expected a number of three digits: --out Dataset101_leaves."
        )
    if taken := {BACKGROUND, IGNORE} & set(foreground(manifest.mask_classes)):
        raise DataError(f"{manifest.name}: nnU-Net uses the name {min(taken)!r} itself. Rename this mask class.")
    bare = [row.image for row in manifest.rows if not row.mask and _PART[row.split] == "Tr"]
    if bare:
        raise DataError(
            f"{manifest.name}: {len(bare)} images that are not for testing have no mask ({bare[0]}, ...), "
            "and nnU-Net learns from masks alone. Add --masked-only to leave them out."
        )


def write_nnunet(manifest: Manifest, entries: list[Entry], folder: Path) -> None:
    """Fill a folder. Images are written anew, as 8-bit RGB; rows without a split are in imagesTr, but in no fold."""
    folds: dict[str, list[str]] = {"train": [], "val": []}
    for row, stem in entries:
        part = _PART[row.split]
        (folder / f"images{part}").mkdir(exist_ok=True)
        write_png(manifest.image_path(row), folder / f"images{part}", f"{stem}_0000")
        mask = mask_of(manifest, row)
        if mask is not None:
            (folder / f"labels{part}").mkdir(exist_ok=True)
            Image.fromarray(mask).save(folder / f"labels{part}" / f"{stem}.png")
        if row.split in folds:
            folds[row.split].append(stem)
    if folds["val"] or any(not row.split for row, _ in entries):
        write_json([folds], folder / "splits_final.json")
    labels = {BACKGROUND: 0, **{name: value for value, name in enumerate(foreground(manifest.mask_classes), 1)}}
    about = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": labels,
        "numTraining": sum(_PART[row.split] == "Tr" for row, _ in entries),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        KEY: facts_tree(manifest, {row.image: stem for row, stem in entries}),
    }
    write_json(about, folder / "dataset.json")
