"""nnU-Net, version 2, for natural images in two dimensions: dataset.json, imagesTr, labelsTr, imagesTs, labelsTs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnsa.data.decoding import SUFFIXES, opened, raw_mask, resolve_inside
from mnsa.data.images import mask_values
from mnsa.data.importers.painted import Canvas, described
from mnsa.data.layouts.careful import brief, mapping, read_json, read_json_list
from mnsa.data.layouts.classes import BACKGROUND, mask_classes_of
from mnsa.data.layouts.facts import KEY, Facts, parse_facts
from mnsa.data.manifest import Manifest, Row, fresh_folder, write_manifest
from mnsa.errors import DataError

IGNORE = "ignore"


class _Case(NamedTuple):
    """One case. channels: its files, relative to the data set; label: empty when there is none."""

    name: str
    channels: tuple[str, ...]
    label: str
    split: str


def import_nnunet(source: Path, out: Path, *, validation_share: float = 0.2, seed: int = 1) -> Manifest:
    """Read a folder DatasetXXX_Name; images stay where they are, unless their channels are separate files.

    The first fold of splits_final.json, if the folder has one, says what is validation. Raises: DataError.
    """
    about = read_json(source / "dataset.json")
    classes, ignored = _labels(about, source / "dataset.json")
    facts = parse_facts(about.get(KEY), f"{source / 'dataset.json'}, {KEY}")
    mask_classes = mask_classes_of(classes, facts, str(source / "dataset.json"))
    cases = _cases(source, about)
    if ignored is not None:
        _require_known(source, cases, ignored)
    if all(len(case.channels) == 1 for case in cases):
        rows = [_row(case, facts) for case in cases]
        manifest = described(source.resolve().name, source, rows, mask_classes, facts, validation_share, seed)
        write_manifest(manifest, out)
        return manifest
    with fresh_folder(out) as folder:
        canvas = Canvas(folder)
        for case in cases:
            _merge(source.resolve(), case, canvas, facts)
        return canvas.finish(out, mask_classes, facts, validation_share, seed)


def _labels(about: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], int | None]:
    """Name the classes 1, 2, ..., and the value of pixels that nobody knows, if there is one."""
    labels = mapping(about.get("labels"), f"{path}, labels")
    if not all(type(value) is int for value in labels.values()):
        raise DataError(f"{path}: labels is {brief(labels)}; expected a number per name (regions are not read).")
    named = {value: name for name, value in labels.items()}
    if labels.get(BACKGROUND) != 0 or sorted(named) != list(range(len(labels))):
        raise DataError(f"{path}: labels is {brief(labels)}; expected background 0, and 1, 2, ... for the others.")
    ignored = labels.get(IGNORE)
    return tuple(named[value] for value in sorted(named) if value and value != ignored), ignored


def _cases(source: Path, about: Mapping[str, Any]) -> list[_Case]:
    ending = about.get("file_ending")
    if ending not in SUFFIXES:
        raise DataError(
            f"{source / 'dataset.json'}: file_ending is {brief(ending)}; "
            f"flat images are read: {', '.join(sorted(SUFFIXES))}."
        )
    split_of = _folds(source / "splits_final.json") if (source / "splits_final.json").exists() else None
    cases = []
    for part in ("Tr", "Ts"):
        for name, channels in sorted(_channels(source, part, ending).items()):
            label = f"labels{part}/{name}{ending}"
            if not (source / label).exists():
                label = ""
            split = "test" if part == "Ts" else "train" if split_of is None else split_of.get(name, "")
            if part == "Tr" and not label:
                raise DataError(f"{source}: case {name} has no labelsTr/{name}{ending}. Add it, or take the case out.")
            cases.append(_Case(name, channels, label, split))
    if not cases:
        raise DataError(f"{source} holds no case such as imagesTr/NAME_0000{ending}.")
    return cases


def _channels(source: Path, part: str, ending: str) -> dict[str, tuple[str, ...]]:
    """Find the files of each case: one in colour or grey, or three, red, green and blue."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((source / f"images{part}").glob(f"*{ending}")):
        name, _, number = path.name.removesuffix(ending).rpartition("_")
        if len(number) != 4 or not number.isdigit() or int(number) != len(found[name]):
            raise DataError(f"{path}: expected NAME_0000{ending}, and _0001, _0002 for more channels.")
        found[name].append(f"images{part}/{path.name}")
    for name, files in found.items():
        if len(files) not in (1, 3):
            raise DataError(f"{source}: case {name} has {len(files)} channels; images have one, or three of colour.")
    return {name: tuple(files) for name, files in found.items()}


def _folds(path: Path) -> dict[str, str]:
    folds = read_json_list(path)
    first = mapping(folds[0] if folds else None, f"{path}, fold 0")
    split_of: dict[str, str] = {}
    for split in ("train", "val"):
        listed = first.get(split)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{path}: {split} of fold 0 is {brief(listed)}; expected a list of cases.")
        for name in listed:
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{path}: case {brief(name)} is in train and val of fold 0. Keep it in one.")
    return split_of


def _require_known(source: Path, cases: Sequence[_Case], ignored: int) -> None:
    """Refuse pixels that nobody knows: masks of a data set can't say so."""
    for case in cases:
        if case.label and ignored in mask_values(resolve_inside(source.resolve(), case.label)):
            raise DataError(
                f"{source / case.label} has pixels of the label {IGNORE!r} ({ignored}), "
                "and masks of mnsa have no value for what nobody knows. Give them a class, or take the case out."
            )


def _row(case: _Case, facts: Facts | None) -> Row:
    row = Row(case.channels[0], case.label, split=case.split)
    return facts.row(case.name, row) if facts else row


def _merge(root: Path, case: _Case, canvas: Canvas, facts: Facts | None) -> None:
    """Put a case's channels into one image. Raises: DataError for channels that are no grey images of one size."""
    channels = [_grey(resolve_inside(root, name)) for name in case.channels]
    if len({channel.shape for channel in channels}) > 1:
        raise DataError(f"{root}: the channels of case {case.name} are of different sizes. Make them anew.")
    mask = _grey(resolve_inside(root, case.label)) if case.label else None
    pixels = np.stack(channels * (3 // len(channels)), axis=-1)
    canvas.add_pixels(pixels, f"{case.name}.png", mask, _row(case, facts))


def _grey(path: Path) -> np.ndarray:
    with opened(path) as image:
        raw = raw_mask(image, path)
    if raw.max() > 255 or raw.min() < 0:
        raise DataError(f"{path} has values beyond 0 to 255. Save it with 8 bits.")
    return raw.astype(np.uint8)
