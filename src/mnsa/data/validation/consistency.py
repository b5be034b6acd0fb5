"""What no file shows by itself: classes and splits, names, and images that occur twice."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnsa.data.findings import Finding
from mnsa.data.manifest import Manifest
from mnsa.data.paths import casefold_name, list_image_files
from mnsa.data.rows import SPLITS, Row
from mnsa.data.validation.inspect import ImageInfo, MaskInfo
from mnsa.data.validation.near_duplicates import find_similar_pairs

_MIN_CLASS_IMAGES = 3  # one each to learn from, to choose by and to test with


def class_findings(manifest: Manifest) -> Iterator[Finding]:
    """Report rows that teach nothing, empty splits, and classes that are small or missing from a split."""
    for row in manifest.rows:
        if row.split and not row.label and not row.mask:
            reason = f"({row.split}) has neither label nor mask; there is nothing to learn"
            yield Finding("no-target", row.image, reason, "Add one, or empty its split")
    rows_of = Counter(row.split for row in manifest.rows)
    for split in ("train", "val"):
        if not rows_of[split]:
            reason = f"has no row with split {split}, without which there is no training"
            yield Finding("split-empty", "manifest.csv", reason, "Split the rows with mnsa split")
    yield from _missing_class_findings(manifest)


def _missing_class_findings(manifest: Manifest) -> Iterator[Finding]:
    count = Counter((row.label, row.split) for row in manifest.rows)
    used = [split for split in SPLITS if any(count[name, split] for name in manifest.classes)]
    for name in manifest.classes:
        total = sum(count[name, split] for split in ("", *SPLITS))
        if "train" in used and not count[name, "train"]:
            reason = f"has {total or 'no'} images of class {name!r}, and none with split train"
            yield Finding(
                "class-not-in-train", "manifest.csv", reason, "Add some, or take the class out of dataset.toml"
            )
        if 0 < total < _MIN_CLASS_IMAGES:
            reason = f"has {total} images of class {name!r}; {_MIN_CLASS_IMAGES} are needed to have one in each split"
            yield Finding("class-small", "manifest.csv", reason, "Add images, or merge the class with another")
        for split in used:
            if split != "train" and total and not count[name, split]:
                reason = f"has no image of class {name!r} with split {split}"
                yield Finding(
                    "class-not-in-split", "manifest.csv", reason, "Its score there will mean nothing; add some"
                )


def name_collision_findings(manifest: Manifest) -> Iterator[Finding]:
    """Report file and class names that differ in case or Unicode form alone."""
    fix = "Rename one: some systems take both for the same"
    for file, twin in _find_collisions(name for row in manifest.rows for name in (row.image, row.mask) if name):
        yield Finding("name-collision", file, f"differs from {twin} in case or Unicode form alone", fix)
    for names in (manifest.classes, manifest.mask_classes):
        for name, twin in _find_collisions(names):
            reason = f"has the classes {twin!r} and {name!r}, which differ in case or Unicode form alone"
            yield Finding("name-collision", "dataset.toml", reason, "If they are one class, merge them")


def unlisted_file_findings(manifest: Manifest) -> Iterator[Finding]:
    """Report image files under the root that no cell of the table names; hidden ones are passed over."""
    named = {posixpath.normpath(cell) for row in manifest.rows for cell in _listed_files(row)}
    for path in map(str, list_image_files(manifest.root)):
        if path not in named:
            yield Finding("unlisted-file", path, "is named by no row", "Add a row for it, or move it away")


def suggest_similar_names(findings: Sequence[Finding], root: Path) -> Iterator[Finding]:
    """Where a file is missing, say which file of almost the same name is there instead."""
    there: dict[Path, dict[str, str]] = {}
    for finding in findings:
        path = root / finding.file
        if finding.kind == "missing":
            if path.parent not in there:
                there[path.parent] = {casefold_name(name): name for name in _file_names(path.parent)}
            near = there[path.parent].get(casefold_name(path.name))
            if near and near != path.name:
                reason = f"does not exist, but {near!a} does: the case or Unicode form differs"
                yield replace(finding, reason=reason, fix="Rename the file, or correct its row")
                continue
        yield finding


def _find_collisions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (twin := first.setdefault(casefold_name(name), name)) != name:
            yield name, twin


def _listed_files(row: Row) -> Iterator[str]:
    yield from (cell for cell in (row.image, row.mask, *row.extra.values()) if cell)


def _file_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


_FIX_LEAK = "Keep it in one split: give both the same group, or drop one"

_FIX_LABEL = "Look at both and correct one label"

_FIX_MASK = "Look at both; one of the masks may be a copy made by mistake"


def exact_duplicate_findings(rows: Sequence[Row], images: Sequence[ImageInfo | None]) -> Iterator[Finding]:
    """Report every image that has the bytes of an earlier one, once."""
    twins: dict[bytes, dict[tuple[str, str], Row]] = defaultdict(dict)  # of each split and label the first
    for row, image in zip(rows, images, strict=True):
        if image:
            if earlier := twins[image.digest]:
                yield _exact_duplicate_finding(row, list(earlier.values()))
            earlier.setdefault((row.split, row.label), row)


def _exact_duplicate_finding(row: Row, twins: Sequence[Row]) -> Finding:
    for twin in twins:
        if _differ(row.split, twin.split):
            reason = f"({row.split}) is the same file as {twin.image} ({twin.split})"
            return Finding("duplicate-across-splits", row.image, reason, _FIX_LEAK)
    for twin in twins:
        if _differ(row.label, twin.label):
            reason = f"({row.label}) is the same file as {twin.image} ({twin.label})"
            return Finding("duplicate-across-labels", row.image, reason, _FIX_LABEL)
    return Finding("duplicate", row.image, f"is the same file as {twins[0].image}", "Drop one: it counts twice")


def near_duplicate_findings(rows: Sequence[Row], images: Sequence[ImageInfo | None]) -> Iterator[Finding]:
    """Report every image that looks like another of another split or label, once, with the one it is most like."""
    together = zip(rows, images, strict=True)
    different = {(p.digest, row.split, row.label): (row, p) for row, p in together if p}
    kept = list(different.values())  # of the same file in one split and label, one speaks for all
    if not kept:
        return
    pairs = find_similar_pairs(
        np.frombuffer(b"".join(p.perceptual_hash for _, p in kept), np.int8).reshape(len(kept), -1)
    )
    by_likeness = np.argsort(-pairs.cosine, kind="stable")
    told: set[tuple[str, int]] = set()
    for index in by_likeness:
        one, other = int(pairs.first[index]), int(pairs.second[index])
        (row, image), (twin, its_image) = kept[other], kept[one]
        if image.digest == its_image.digest:
            continue  # reported as the same file
        likeness = f"cosine {pairs.cosine[index]:.2f}"
        if _differ(row.split, twin.split) and ("split", other) not in told:
            told.add(("split", other))
            reason = f"({row.split}) looks like {twin.image} ({twin.split}), {likeness}"
            yield Finding("near-duplicate-across-splits", row.image, reason, _FIX_LEAK)
        if _differ(row.label, twin.label) and ("label", other) not in told:
            told.add(("label", other))
            reason = f"({row.label}) looks like {twin.image} ({twin.label}), {likeness}"
            yield Finding("near-duplicate-across-labels", row.image, reason, _FIX_LABEL)


def shared_mask_findings(
    rows: Sequence[Row], images: Sequence[ImageInfo | None], masks: Sequence[MaskInfo | None]
) -> Iterator[Finding]:
    """Report a mask that has the bytes of another image's; masks of one class alone are all alike and don't count."""
    first: dict[bytes, tuple[Row, ImageInfo]] = {}
    for row, image, mask in zip(rows, images, masks, strict=True):
        if image and mask and sum(count > 0 for count in mask.pixels) > 1:
            owner, its_image = first.setdefault(mask.digest, (row, image))
            if its_image.digest != image.digest:
                reason = f"of {row.image} is the same as {owner.mask} of {owner.image}"
                yield Finding("mask-shared", row.mask, reason, _FIX_MASK)


def _differ(one: str, other: str) -> bool:
    """Tell whether two splits or labels are known and not the same."""
    return bool(one and other and one != other)
