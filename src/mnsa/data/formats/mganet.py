"""The MGANet format: image folders train and test, a folder l2_mask of vein masks, and labels.pkl.

Source: method.md, section 3.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mnsa.data.formats.common import build_manifest
from mnsa.data.formats.pickled_labels import read_pickled_labels
from mnsa.data.manifest import Manifest, Row
from mnsa.data.paths import list_images_to_import
from mnsa.errors import DataError

SPLITS = ("train", "test")
MASKS = "l2_mask"
LABELS = "labels.pkl"

Key = int | str
logger = logging.getLogger(__name__)


def import_mganet(
    source: Path, *, mask_classes: Sequence[str] | None = None, val_fraction: float = 0.2, seed: int = 1
) -> Manifest:
    """Read `{train,test}/<id>.<ext>`, `l2_mask/<id>.png` and labels.pkl of one set: soybean_2_1, btf, ...

    If the keys of labels.pkl are numbers, images and masks are matched by the number in their names, with or without
    leading zeros. If the keys are text (btf), they are matched by file name. The classes are the labels: "1", "2", ...
    Masks have the class `vein`, unless mask_classes names others; without a folder l2_mask there are no masks.
    Several sets may share one labels.pkl, so labels without an image are left out, with a warning.

    Raises: DataError with an image without a label or mask, or with two files that have the same key.
    """
    for name in SPLITS:
        if not (source / name).is_dir():
            raise DataError(f"{source} has no folder {name}. Give the folder of one set, such as data/soybean_2_1.")
    labels = read_pickled_labels(source / LABELS)
    key_of = _key_function(labels, source / LABELS)
    images = _files_by_key(source, SPLITS, key_of)
    has_masks = (source / MASKS).is_dir()
    masks = _files_by_key(source, (MASKS,), key_of) if has_masks else None
    rows = [_image_row(key, image, labels, masks, source) for key, image in images.items()]
    if unused := sorted(labels.keys() - images.keys()):
        logger.warning(
            "%s labels of %s have no image and are left out: %s", len(unused), source / LABELS, _preview(unused)
        )
    if masks and (unused := sorted(masks.keys() - images.keys(), key=str)):
        logger.warning(
            "%s masks of %s have no image and are left out: %s", len(unused), source / MASKS, _preview(unused)
        )
    return build_manifest(source, rows, mask_classes or (("vein",) if has_masks else None), val_fraction, seed)


def _key_function(labels: Mapping[Key, int], path: Path) -> Callable[[str], Key]:
    """Choose the function that converts a file name to its key in `labels`."""
    kinds = {type(key) for key in labels}
    if len(kinds) != 1:
        raise DataError(f"{path} holds {len(labels)} labels; expected one or more, by numbers alone or by names alone.")
    return _number_key if kinds == {int} else str


def _number_key(name: str) -> Key:
    """Return 7 for 7.tif and 007.tif, and the name itself for other names, which have no label."""
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 19 else name


def _files_by_key(source: Path, folders: Sequence[str], key_of: Callable[[str], Key]) -> dict[Key, str]:
    """Map keys to the image files of these folders, relative to `source`; hidden files are skipped."""
    found: dict[Key, str] = {}
    for folder in folders:
        for path in list_images_to_import(source / folder, recursive=False):
            file = f"{folder}/{path.name}"
            other = found.setdefault(key_of(path.name), file)
            if other != file:
                raise DataError(f"{source}: {other} and {file} have the same key in {LABELS}. Keep one of them.")
    return found


def _image_row(key: Key, image: str, labels: Mapping[Key, int], masks: Mapping[Key, str] | None, source: Path) -> Row:
    if key not in labels:
        raise DataError(
            f"{source / image} has no label: {LABELS} has no key {key!r}, but keys such as {_preview(sorted(labels))}. "
            "Add its label, or move it away."
        )
    if masks is not None and key not in masks:
        name = f"{key}.png" if isinstance(key, int) else key
        raise DataError(
            f"{source / image} has no mask {MASKS}/{name}. Restore it, or move {MASKS} away to import no masks."
        )
    mask = masks[key] if masks else ""
    return Row(image, mask, label=str(labels[key]), split=image.partition("/")[0])


def _preview(keys: Sequence[Key]) -> str:
    return ", ".join(map(repr, keys[:3])) + (", ..." if len(keys) > 3 else "")
