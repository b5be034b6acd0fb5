"""nnU-Net v2: images in imagesTr and imagesTs, masks in labelsTr and labelsTs, dataset.json, splits_final.json."""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.decode import open_image, read_mask_values, unique_mask_values
from mnsa.data.formats.common import (
    DatasetBuilder,
    NamedRow,
    build_masked_manifest,
    read_row_mask,
    write_json,
    write_png,
)
from mnsa.data.formats.names import FileNames
from mnsa.data.formats.sidecar import (
    BACKGROUND,
    SIDECAR_KEY,
    Sidecar,
    build_sidecar,
    foreground_names,
    parse_sidecar,
    resolve_mask_classes,
)
from mnsa.data.formats.untrusted import read_json, read_json_list, require_mapping, shorten
from mnsa.data.manifest import Manifest, Row, new_dataset_folder, resolve_inside, write_manifest
from mnsa.data.paths import IMAGE_SUFFIXES, list_images_to_import
from mnsa.errors import DataError

logger = logging.getLogger(__name__)

IGNORE_LABEL = "ignore"

_OWN_LABELS = {BACKGROUND, IGNORE_LABEL}

_FOLDER_SUFFIX = {"train": "Tr", "val": "Tr", "test": "Ts", "": "Tr"}


class _Case(NamedTuple):
    """One case. channels: its image files, relative to the data set. label: its mask file; empty without a mask."""

    name: str
    channels: tuple[str, ...]
    label: str
    split: str


def import_nnunet(source: Path, out: Path, *, val_fraction: float = 0.2, seed: int = 1) -> Manifest:
    """Import a folder DatasetXXX_Name. Images are copied only when their channels are separate files.

    If there is a splits_final.json, its first fold gives the validation split. Raises: DataError.
    """
    description = read_json(source / "dataset.json")
    classes, ignored = _parse_labels(description, source / "dataset.json")
    sidecar = parse_sidecar(description.get(SIDECAR_KEY), f"{source / 'dataset.json'}, {SIDECAR_KEY}")
    mask_classes = resolve_mask_classes(classes, sidecar, str(source / "dataset.json"))
    cases = _list_cases(source, description)
    if ignored is not None:
        _reject_ignored_pixels(source, cases, ignored)
    if all(len(case.channels) == 1 for case in cases):
        rows = [_case_row(case, sidecar) for case in cases]
        manifest = build_masked_manifest(source.resolve().name, source, rows, mask_classes, sidecar, val_fraction, seed)
        write_manifest(manifest, out)
        return manifest
    with new_dataset_folder(out) as folder:
        builder = DatasetBuilder(folder)
        for case in cases:
            _merge_channels(source.resolve(), case, builder, sidecar)
        return builder.finish(out, mask_classes, sidecar, val_fraction, seed)


def require_nnunet_compatible(manifest: Manifest, out: Path) -> None:
    """Validate that nnU-Net can use the data set. Raises: DataError for the folder's name, a class or a row."""
    if not re.fullmatch(r"Dataset\d{3}_\w+", out.name, re.ASCII):
        raise DataError(
            f"{out.name} is not a folder name of nnU-Net; expected a number of three digits: --out Dataset101_leaves."
        )
    if taken := {BACKGROUND, IGNORE_LABEL} & set(foreground_names(manifest.mask_classes)):
        raise DataError(f"{manifest.name}: nnU-Net uses the name {min(taken)!r} itself. Rename this mask class.")
    bare = [row.image for row in manifest.rows if not row.mask and _FOLDER_SUFFIX[row.split] == "Tr"]
    if bare:
        raise DataError(
            f"{manifest.name}: {len(bare)} images that are not for testing have no mask ({bare[0]}, ...), "
            "and nnU-Net trains on masks only. Add --masked-only to leave them out."
        )


def write_nnunet(manifest: Manifest, entries: list[NamedRow], folder: Path) -> None:
    """Write a data set into an existing folder: images as 8-bit RGB.

    Rows without a split go to imagesTr, in no fold.
    """
    folds: dict[str, list[str]] = {"train": [], "val": []}
    for row, stem in entries:
        part = _FOLDER_SUFFIX[row.split]
        (folder / f"images{part}").mkdir(exist_ok=True)
        write_png(manifest.image_path(row), folder / f"images{part}", f"{stem}_0000")
        mask = read_row_mask(manifest, row)
        if mask is not None:
            (folder / f"labels{part}").mkdir(exist_ok=True)
            Image.fromarray(mask).save(folder / f"labels{part}" / f"{stem}.png")
        if row.split in folds:
            folds[row.split].append(stem)
    if folds["val"] or any(not row.split for row, _ in entries):
        write_json([folds], folder / "splits_final.json")
    labels = {BACKGROUND: 0, **{name: value for value, name in enumerate(foreground_names(manifest.mask_classes), 1)}}
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": labels,
        "numTraining": sum(_FOLDER_SUFFIX[row.split] == "Tr" for row, _ in entries),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        SIDECAR_KEY: build_sidecar(manifest, {row.image: stem for row, stem in entries}),
    }
    write_json(description, folder / "dataset.json")


def _parse_labels(description: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], int | None]:
    """Get the names of the classes 1, 2, ..., and the pixel value of the ignore label, or None."""
    labels = require_mapping(description.get("labels"), f"{path}, labels")
    if labels and all(name.isdecimal() and isinstance(value, str) for name, value in labels.items()):
        labels = {value: int(name) for name, value in labels.items()}  # as version 1 of nnU-Net writes them
    labels = {name.lower() if name.lower() in _OWN_LABELS else name: _to_int(value) for name, value in labels.items()}
    if not all(type(value) is int for value in labels.values()):
        raise DataError(f"{path}: labels is {shorten(labels)}; expected a number per name (regions are not read).")
    named = {value: name for name, value in labels.items()}
    if labels.get(BACKGROUND) != 0 or sorted(named) != list(range(len(labels))):
        raise DataError(f"{path}: labels is {shorten(labels)}; expected background 0, and 1, 2, ... for the others.")
    ignored = labels.get(IGNORE_LABEL)
    return tuple(named[value] for value in sorted(named) if value and value != ignored), ignored


def _to_int(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _list_cases(source: Path, description: Mapping[str, Any]) -> list[_Case]:
    ending = f".{str(description.get('file_ending')).lower().removeprefix('.')}"
    if ending not in IMAGE_SUFFIXES:
        raise DataError(
            f"{source / 'dataset.json'}: file_ending is {shorten(description.get('file_ending'))}; "
            f"flat images are read: {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    split_of = _read_first_fold(source / "splits_final.json") if (source / "splits_final.json").exists() else None
    cases, files = [], FileNames()
    for part in ("Tr", "Ts"):
        for name, channels in sorted(_group_channels(source, part, ending).items()):
            label = files.find(source, f"labels{part}/{name}{ending}") or ""
            split = "test" if part == "Ts" else "train" if split_of is None else split_of.get(name, "")
            if part == "Tr" and not label:
                raise DataError(f"{source}: case {name} has no labelsTr/{name}{ending}. Add it, or remove the case.")
            cases.append(_Case(name, channels, label, split))
        known = {PurePosixPath(case.label).name for case in cases}
        labels = [file.name for file in list_images_to_import(source / f"labels{part}", recursive=False)]
        if unpaired := [name for name in labels if name not in known]:
            logger.warning(
                "%s: %s masks of labels%s have no image, such as %s", source, len(unpaired), part, unpaired[0]
            )
    if not cases:
        raise DataError(f"{source} holds no case such as imagesTr/NAME_0000{ending}.")
    return cases


def _group_channels(source: Path, part: str, ending: str) -> dict[str, tuple[str, ...]]:
    """Find the image files of each case: one in color or gray, or three for red, green and blue."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    folder = source / f"images{part}"
    listed = list_images_to_import(folder, recursive=False)
    if other := [file.name for file in listed if file.suffix.lower() != ending]:
        logger.warning("%s: %s files are no %s and are left out, such as %s", folder, len(other), ending, other[0])
    for path in (folder / file for file in listed if file.suffix.lower() == ending):
        name, _, number = path.stem.rpartition("_")
        if len(number) != 4 or not number.isdigit() or int(number) != len(found[name]):
            raise DataError(f"{path}: expected NAME_0000{ending}, and _0001, _0002 for more channels.")
        found[name].append(f"images{part}/{path.name}")
    for name, files in found.items():
        if len(files) not in (1, 3):
            raise DataError(f"{source}: case {name} has {len(files)} channels; images have one, or three of color.")
    return {name: tuple(files) for name, files in found.items()}


def _read_first_fold(path: Path) -> dict[str, str]:
    folds = read_json_list(path)
    first = require_mapping(folds[0] if folds else None, f"{path}, fold 0")
    split_of: dict[str, str] = {}
    for split in ("train", "val"):
        listed = first.get(split)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{path}: {split} of fold 0 is {shorten(listed)}; expected a list of cases.")
        for name in listed:
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}: case {shorten(name)} is in train and val of fold 0. Keep it in one.")
    return split_of


def _reject_ignored_pixels(source: Path, cases: Sequence[_Case], ignored: int) -> None:
    """Reject pixels with the ignore label, which masks of a data set can't store. Raises: DataError."""
    for case in cases:
        if case.label and ignored in unique_mask_values(resolve_inside(source.resolve(), case.label)):
            raise DataError(
                f"{source / case.label} has pixels of the label {IGNORE_LABEL!r} ({ignored}), "
                "and masks of mnsa have no value for ignored pixels. Give them a class, or remove the case."
            )


def _case_row(case: _Case, sidecar: Sidecar | None) -> Row:
    row = Row(case.channels[0], case.label, split=case.split)
    return sidecar.complete_row(case.name, row) if sidecar else row


def _merge_channels(root: Path, case: _Case, builder: DatasetBuilder, sidecar: Sidecar | None) -> None:
    """Merge the channels of a case into one image. Raises: DataError for channels with different sizes or in color."""
    channels = [_read_gray(resolve_inside(root, name)) for name in case.channels]
    if len({channel.shape for channel in channels}) > 1:
        raise DataError(f"{root}: the channels of case {case.name} have different sizes. Create them again.")
    mask = _read_gray(resolve_inside(root, case.label)) if case.label else None
    pixels = np.stack(channels * (3 // len(channels)), axis=-1)
    builder.add_pixels(pixels, f"{case.name}.png", mask, _case_row(case, sidecar))


def _read_gray(path: Path) -> np.ndarray:
    with open_image(path) as image:
        raw = read_mask_values(image, path)
    if raw.max() > 255 or raw.min() < 0:
        raise DataError(f"{path} has values beyond 0 to 255. Save it with 8 bits.")
    return raw.astype(np.uint8)
