"""Findings about a data set as a whole: classes and splits, names, and images that occur more than once."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from mnsa.data.findings import Finding
from mnsa.data.manifest import Manifest
from mnsa.data.paths import (
    UNREAD_SUFFIXES,
    PassedOver,
    casefold_name,
    missing_package_hint,
    scan_images,
)
from mnsa.data.rows import SPLITS, Row, is_empty_word, is_layout_word
from mnsa.data.validation.inspect import ImageInfo, MaskInfo
from mnsa.data.validation.near_duplicates import find_similar_pairs

_MIN_CLASS_IMAGES = 3  # one for each of train, val and test

_THIN_WORDS = ("vein", "vessel", "midrib")  # in names of mask classes that never cover half of a photo

_FIX_LEAK = "Keep both in one split by giving them the same group, or remove one"

_FIX_LABEL = "Compare the two images and correct one label"

_FIX_MASK = "Compare the two images; one of the masks may have been copied by mistake"


def class_findings(manifest: Manifest) -> Iterator[Finding]:
    """Report rows without a target, empty splits, and classes that are small or missing from a split."""
    for row in manifest.rows:
        if row.split and not row.label and not row.mask:
            reason = f"({row.split}) has neither label nor mask, so there is nothing to learn"
            yield Finding("no-target", row.image, reason, "Add one of them, or empty the row's split")
    rows_per_split = Counter(row.split for row in manifest.rows)
    for split in ("train", "val"):
        if not rows_per_split[split]:
            reason = f"has no row with split {split}; training needs one"
            yield Finding("split-empty", "manifest.csv", reason, "Split the data set, or correct the split column")
    for name in filter(is_layout_word, manifest.classes):
        reason = f"has the class {name!r}, a word for a split or for a folder of images or masks"
        yield Finding("class-name", "dataset.toml", reason, "Import the folder again if it is no class")
    for name in filter(is_empty_word, manifest.classes):
        reason = f"has the class {name!r}, which programs write for an empty cell"
        yield Finding("class-name", "dataset.toml", reason, "Leave the label of these rows empty")
    yield from _class_count_findings(manifest)


def name_collision_findings(manifest: Manifest) -> Iterator[Finding]:
    """Report file and class names that differ only in upper and lower case or in Unicode normalization."""
    difference = "only in upper and lower case or in Unicode normalization"
    files = (name for row in manifest.rows for name in (row.image, row.mask) if name)
    for name, other in _find_collisions(files):
        fix = "Rename one: Windows and macOS take both for the same file"
        yield Finding("name-collision", name, f"differs from {other} {difference}", fix)
    for classes in (manifest.classes, manifest.mask_classes):
        for name, other in _find_collisions(classes):
            reason = f"has the classes {other!r} and {name!r}, which differ {difference}"
            yield Finding("name-collision", "dataset.toml", reason, "Merge them if they are the same class")


def unlisted_file_findings(manifest: Manifest) -> Iterator[Finding]:
    """Report image files below the root that are in no cell of the table, and what can't be in the table."""
    listed = {posixpath.normpath(cell) for row in manifest.rows for cell in _file_cells(row)}
    passed = PassedOver()
    for path in map(str, scan_images(manifest.root, passed)):
        if path not in listed:
            yield Finding("unlisted-file", path, "is in no row", "Add a row for it, or move it out of the root")
    used = {posixpath.splitext(cell)[1].lower() for cell in listed}
    for suffix, count in sorted(passed.other.items()):
        if suffix in UNREAD_SUFFIXES - used:
            reason = f"{count} files of this format are below the root; it is not read"
            fix = f"Save them as JPEG or PNG, and import the folder again.{missing_package_hint(suffix)}".rstrip(".")
            yield Finding("passed-over", f"*{suffix}", reason, fix)
    fixes = {
        "is a link to a folder, which is not followed": (passed.links, "Copy the folder to its place"),
        "is a folder without images": (passed.empty, "Remove it, or look for its images"),
    }
    expected = {str(above) for cell in listed for above in (PurePosixPath(cell), *PurePosixPath(cell).parents)}
    for reason, (names, fix) in fixes.items():  # a row below such a folder has findings of its own
        yield from (Finding("passed-over", name, reason, fix) for name in names if name not in expected)


def suggest_similar_names(findings: Iterable[Finding], root: Path) -> Iterator[Finding]:
    """Pass on findings; one about a missing file gets the name of an existing file that is almost the same."""
    names_in: dict[Path, dict[str, str]] = {}  # folder -> casefolded name -> name
    for finding in findings:
        path = root / finding.file
        if finding.kind != "missing":
            yield finding
            continue
        if path.parent not in names_in:
            names_in[path.parent] = {casefold_name(name): name for name in _names_in_folder(path.parent)}
        similar = names_in[path.parent].get(casefold_name(path.name))
        if similar and similar != path.name:
            reason = f"does not exist, but {similar!a} does: upper and lower case or Unicode normalization differ"
            yield replace(finding, reason=reason, fix="Rename the file, or correct its row")
        else:
            yield finding


def exact_duplicate_findings(rows: Sequence[Row], images: Sequence[ImageInfo | None]) -> Iterator[Finding]:
    """Report, once, every image whose file has the same bytes as that of an earlier row."""
    earlier_rows: dict[str, dict[tuple[str, str], Row]] = defaultdict(dict)  # digest -> first row per split and label
    for row, image in zip(rows, images, strict=True):
        if image:
            earlier = earlier_rows[image.digest]
            if earlier:
                yield _exact_duplicate_finding(row, list(earlier.values()))
            earlier.setdefault((row.split, row.label), row)


def near_duplicate_findings(rows: Sequence[Row], images: Sequence[ImageInfo | None]) -> Iterator[Finding]:
    """Report, once, every image that is similar to one of another split or label, with the most similar one."""
    # Copies of one file in the same split and label are compared only once.
    distinct = {
        (image.digest, row.split, row.label): (row, image) for row, image in zip(rows, images, strict=True) if image
    }
    entries = list(distinct.values())
    if not entries:
        return
    hashes = np.frombuffer(b"".join(image.perceptual_hash for _, image in entries), np.int8)
    pairs = find_similar_pairs(hashes.reshape(len(entries), -1))
    reported: set[tuple[str, int]] = set()
    for index in np.argsort(-pairs.cosine, kind="stable"):
        first, second = int(pairs.first[index]), int(pairs.second[index])
        (other, other_image), (row, image) = entries[first], entries[second]
        if image.digest == other_image.digest:
            continue  # an exact duplicate
        similarity = f"cosine {pairs.cosine[index]:.2f}"
        if _both_known_and_different(row.split, other.split) and ("split", second) not in reported:
            reported.add(("split", second))
            reason = f"({row.split}) looks like {other.image} ({other.split}), {similarity}"
            yield Finding("near-duplicate-across-splits", row.image, reason, _FIX_LEAK)
        if _both_known_and_different(row.label, other.label) and ("label", second) not in reported:
            reported.add(("label", second))
            reason = f"({row.label}) looks like {other.image} ({other.label}), {similarity}"
            yield Finding("near-duplicate-across-labels", row.image, reason, _FIX_LABEL)


def shared_mask_findings(
    rows: Sequence[Row], images: Sequence[ImageInfo | None], masks: Sequence[MaskInfo | None]
) -> Iterator[Finding]:
    """Report masks with the same bytes as the mask of a different image. Masks of a single class are left out."""
    first: dict[str, tuple[Row, ImageInfo]] = {}  # mask digest -> its first row
    for row, image, mask in zip(rows, images, masks, strict=True):
        if image and mask and sum(count > 0 for count in mask.pixels) > 1:
            other, other_image = first.setdefault(mask.digest, (row, image))
            if other_image.digest != image.digest:
                reason = f"of {row.image} is the same as {other.mask} of {other.image}"
                yield Finding("mask-shared", row.mask, reason, _FIX_MASK)


def mask_class_findings(manifest: Manifest, masks: Sequence[MaskInfo | None]) -> Iterator[Finding]:
    """Report mask classes without a pixel, in all masks or in those of a split, and masks that seem inverted."""
    names = manifest.mask_classes
    areas = mask_class_areas(manifest, masks)
    total = sum(areas.values(), np.zeros(max(2, len(names)), np.int64))
    for value, name in enumerate(names, start=len(names) == 1):
        if not total.sum() or (value == 0 and len(names) > 1):
            continue
        if not total[value]:
            fix = "Remove it; or import again if it lies below another class, such as an outline that is drawn last"
            yield Finding("mask-class-absent", "dataset.toml", f"has mask class {name!r}, of no mask's pixels", fix)
            continue
        yield from _covered_class_findings(names, value, masks)
        for split in SPLITS:
            if split in areas and not areas[split][value]:
                reason = f"has no pixel of mask class {name!r} in the masks of split {split}"
                fix = "Add some: it is not learned" if split == "train" else f"Add some: it has no score in {split}"
                yield Finding("mask-class-absent", "manifest.csv", reason, fix)
    yield from _inverted_mask_findings(manifest, masks)


def _covered_class_findings(names: Sequence[str], value: int, masks: Sequence[MaskInfo | None]) -> Iterator[Finding]:
    """Report thin classes that most masks with other classes lack: an outline may have been drawn over them."""
    if len(names) == 1 or not any(word in names[value].lower() for word in _THIN_WORDS):
        return
    marked = [mask for mask in masks if mask and any(mask.pixels[1:])]
    lacking = [mask for mask in marked if not mask.pixels[value]]
    if len(lacking) > len(marked) / 2:
        above = names[1 + int(np.sum([mask.pixels[1:] for mask in lacking], axis=0).argmax())]
        reason = (
            f"has mask class {names[value]!r}, which {len(lacking)} of {len(marked)} masks lack; they have {above!r}"
        )
        fix = (
            f"Look at a contact sheet: {above!r} may be drawn over it. If so, list it after {above!r} and import again"
        )
        yield Finding("mask-class-absent", "dataset.toml", reason, fix)


def mask_class_areas(manifest: Manifest, masks: Sequence[MaskInfo | None]) -> dict[str, np.ndarray]:
    """Count the pixels of each class, background first, per split that has masks."""
    areas: dict[str, np.ndarray] = {}
    for row, mask in zip(manifest.rows, masks, strict=True):
        if mask:
            areas[row.split] = areas.get(row.split, 0) + np.array(mask.pixels, np.int64)
    return areas


def _inverted_mask_findings(manifest: Manifest, masks: Sequence[MaskInfo | None]) -> Iterator[Finding]:
    known = [mask for mask in masks if mask and sum(count > 0 for count in mask.pixels) > 1]
    for value, name in enumerate(manifest.mask_classes, start=len(manifest.mask_classes) == 1):
        is_thin_name = any(word in name.lower() for word in _THIN_WORDS)
        inverted = [
            mask for mask in known
            if mask.pixels[value] > sum(mask.pixels) / 2 and (is_thin_name or (value == 1 and mask.has_thin_background))
        ]  # fmt: skip
        if value and len(inverted) > len(known) / 2:
            share = np.mean([mask.pixels[value] / sum(mask.pixels) for mask in known])
            reason = f"has mask class {name!r}, which covers {share:.0%} of the masks; what is left is thin or small"
            fix = "Look at a contact sheet (--contact-sheet): white may mean background. If so, invert the masks"
            yield Finding("mask-inverted", "dataset.toml", reason, fix)


def _class_count_findings(manifest: Manifest) -> Iterator[Finding]:
    count = Counter((row.label, row.split) for row in manifest.rows)
    used = [split for split in SPLITS if any(count[name, split] for name in manifest.classes)]
    for name in manifest.classes:
        total = sum(count[name, split] for split in ("", *SPLITS))
        if "train" in used and not count[name, "train"]:
            reason = f"has {total or 'no'} images of class {name!r}, none of them with split train"
            fix = "Add some, or remove the class from dataset.toml"
            yield Finding("class-not-in-train", "manifest.csv", reason, fix)
        if 0 < total < _MIN_CLASS_IMAGES:
            reason = f"has {total} images of class {name!r}; every split having one needs {_MIN_CLASS_IMAGES}"
            yield Finding("class-small", "manifest.csv", reason, "Add images, or merge the class with another")
        for split in used:
            if split != "train" and total and not count[name, split]:
                reason = f"has no image of class {name!r} with split {split}"
                fix = f"Add some: there is no score for the class in {split}"
                yield Finding("class-not-in-split", "manifest.csv", reason, fix)


def _find_collisions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find names with the same casefolded form: (name, the first of this form)."""
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (other := first.setdefault(casefold_name(name), name)) != name:
            yield name, other


def _file_cells(row: Row) -> Iterator[str]:
    """Cells that may be file paths; other columns may be masks, too."""
    yield from (cell for cell in (row.image, row.mask, *row.extra.values()) if cell)


def _names_in_folder(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _exact_duplicate_finding(row: Row, earlier: Sequence[Row]) -> Finding:
    for other in earlier:
        if _both_known_and_different(row.split, other.split):
            reason = f"({row.split}) is the same file as {other.image} ({other.split})"
            return Finding("duplicate-across-splits", row.image, reason, _FIX_LEAK)
    for other in earlier:
        if _both_known_and_different(row.label, other.label):
            reason = f"({row.label}) is the same file as {other.image} ({other.label})"
            return Finding("duplicate-across-labels", row.image, reason, _FIX_LABEL)
    return Finding("duplicate", row.image, f"is the same file as {earlier[0].image}", "Remove one: it counts twice")


def _both_known_and_different(first: str, second: str) -> bool:
    return bool(first and second and first != second)
