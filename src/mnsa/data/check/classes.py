"""Classes and splits: is there enough of each, where it is needed."""

from collections import Counter
from collections.abc import Iterator

from mnsa.data.faults import Fault
from mnsa.data.manifest import Manifest
from mnsa.data.rows import SPLITS

_FEWEST = 3  # one each to learn from, to choose by and to test with


def class_faults(manifest: Manifest) -> Iterator[Fault]:
    """Report rows that teach nothing, empty splits, and classes that are small or missing from a split."""
    for row in manifest.rows:
        if row.split and not row.label and not row.mask:
            reason = f"({row.split}) has neither label nor mask; there is nothing to learn"
            yield Fault("nothing-to-learn", row.image, reason, "Add one, or empty its split")
    rows_of = Counter(row.split for row in manifest.rows)
    for split in ("train", "val"):
        if not rows_of[split]:
            reason = f"has no row with split {split}, without which there is no training"
            yield Fault("split-empty", "manifest.csv", reason, "Deal the rows with mnsa split")
    yield from _classes_missing(manifest)


def _classes_missing(manifest: Manifest) -> Iterator[Fault]:
    count = Counter((row.label, row.split) for row in manifest.rows)
    used = [split for split in SPLITS if any(count[name, split] for name in manifest.classes)]
    for name in manifest.classes:
        total = sum(count[name, split] for split in ("", *SPLITS))
        if "train" in used and not count[name, "train"]:
            reason = f"has {total or 'no'} images of class {name!r}, and none with split train"
            yield Fault("class-untrained", "manifest.csv", reason, "Add some, or take the class out of dataset.toml")
        if 0 < total < _FEWEST:
            reason = f"has {total} images of class {name!r}; {_FEWEST} are needed to have one in each split"
            yield Fault("class-small", "manifest.csv", reason, "Add images, or merge the class with another")
        for split in used:
            if split != "train" and total and not count[name, split]:
                reason = f"has no image of class {name!r} with split {split}"
                yield Fault("class-not-in-split", "manifest.csv", reason, "Its score there will mean nothing; add some")
