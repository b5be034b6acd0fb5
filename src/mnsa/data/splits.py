"""Dealing a data set's rows anew into train, val and test: hold-out, k folds, a few images per class.

Seeded, stratified by label, groups kept whole; it depends on paths, labels and groups, not on rows' order or machine.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mnsa.data.rows import SPLITS, Row
from mnsa.data.splits import carve, units_of
from mnsa.errors import DataError

USUAL_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What to deal. None: not asked for.

    test: share of all rows; None: what is test stays test. val: share of what is dealt. folds, fold: fold number
    `fold` of `folds`, counted from 0, becomes val. few_shot: training images per class that stay; the others are
    kept and used nowhere.
    """

    val: float | None = None
    test: float | None = None
    folds: int | None = None
    fold: int | None = None
    few_shot: int | None = None

    def require_sense(self) -> None:
        """Refuse what contradicts itself. Raises: DataError."""
        if (self.folds is None) != (self.fold is None):
            raise DataError("--folds and --fold belong together: how many there are, and which of them is val.")
        if self.folds is not None and self.fold is not None and not 0 <= self.fold < self.folds:
            raise DataError(f"--fold is {self.fold}; of {self.folds} folds expected 0 to {self.folds - 1}.")
        if self.folds is not None and self.val is not None:
            raise DataError("--val and --folds both say what becomes val. Give one of them.")
        if all(wish is None for wish in (self.val, self.test, self.folds, self.few_shot)):
            raise DataError("Nothing to deal. Give --val and --test, --folds and --fold, or --few-shot.")
        if (self.val or 0) + (self.test or 0) >= 1:
            raise DataError(f"--val {self.val} and --test {self.test} leave nothing to train. Make them smaller.")


def deal(rows: Sequence[Row], plan: Plan, *, seed: int) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Give every row its split; the second is what to know of small classes and of groups.

    Raises: DataError for a plan without sense, or one that groups make impossible.
    """
    plan.require_sense()
    dealt = tuple(rows)
    if plan.val is not None or plan.test is not None or plan.folds is not None:
        dealt = _with_validation(_with_test(dealt, plan, seed), plan, seed)
    notes = [*_notes_on_groups(dealt), *_notes_on_classes(dealt)]
    if plan.few_shot is not None:
        notes.extend(_notes_on_few(dealt, plan.few_shot))
        dealt = _few(dealt, plan.few_shot, seed)
    return dealt, tuple(notes)


def _with_test(rows: Sequence[Row], plan: Plan, seed: int) -> tuple[Row, ...]:
    """Deal the test rows or leave them; every other row is `train`, unless its group is in test: it is used nowhere."""
    if plan.test is not None:
        mixed = [replace(row, split="train") for row in rows]
        return _required(carve(mixed, source="train", target="test", share=plan.test, seed=seed), "test")
    tested = {row.group for row in rows if row.split == "test" and row.group}
    others = {True: "", False: "train"}
    return tuple(row if row.split == "test" else replace(row, split=others[row.group in tested]) for row in rows)


def _with_validation(rows: Sequence[Row], plan: Plan, seed: int) -> tuple[Row, ...]:
    if plan.folds is not None:
        held_out = _folds([row for row in rows if row.split == "train"], plan.folds, seed)
        chosen = [replace(row, split="val") if held_out.get(row.image) == plan.fold else row for row in rows]
        return _required(tuple(chosen), "val")
    share = (USUAL_SHARE if plan.val is None else plan.val) / (1 - (plan.test or 0))
    return _required(carve(rows, source="train", target="val", share=share, seed=seed), "val")


def _required(rows: tuple[Row, ...], split: str) -> tuple[Row, ...]:
    if not any(row.split == split for row in rows):
        raise DataError(
            f"No row can be {split}: every class or group is needed whole in train. "
            "Add images, correct the groups, or ask for fewer folds."
        )
    return rows


def _folds(rows: Sequence[Row], folds: int, seed: int) -> dict[str, int]:
    """Fold of each image, all classes spread alike; what would take the last of a class out of train is in no fold."""
    units = units_of(rows)
    random.Random(seed).shuffle(units)  # noqa: S311 - a split is no secret
    units.sort(key=lambda unit: (-len(unit), min(row.label for row in unit)))  # class by class: no fold falls behind
    pieces = Counter(label for unit in units for label in {row.label for row in unit})
    held: list[Counter[str]] = [Counter() for _ in range(folds)]  # images of each class
    pieces_held: list[Counter[str]] = [Counter() for _ in range(folds)]
    fold_of: dict[str, int] = {}
    for unit in units:
        labels = Counter(row.label for row in unit)
        free = [n for n in range(folds) if all(pieces_held[n][label] + 1 < pieces[label] for label in labels)]
        if free:
            crowd = {n: (sum(held[n][label] * labels[label] for label in labels), held[n].total()) for n in free}
            fold = min(free, key=crowd.__getitem__)
            held[fold] += labels
            pieces_held[fold].update(labels.keys())
            fold_of.update({row.image: fold for row in unit})
    return fold_of


def _few(rows: Sequence[Row], count: int, seed: int) -> tuple[Row, ...]:
    """Keep `count` training rows of each class; those of a smaller count are among those of a larger one."""
    kept: set[str] = set()
    for label, images in _training_images(rows).items():
        random.Random(f"{seed}/{label}").shuffle(images)  # noqa: S311 - a split is no secret
        kept.update(images[:count])
    return tuple(replace(row, split="") if row.split == "train" and row.image not in kept else row for row in rows)


def _training_images(rows: Sequence[Row]) -> dict[str, list[str]]:
    images: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.image):
        if row.split == "train":
            images[row.label].append(row.image)
    return images


def _notes_on_groups(rows: Sequence[Row]) -> Iterator[str]:
    tested = {row.group for row in rows if row.split == "test" and row.group}
    if count := sum(not row.split and row.group in tested for row in rows):
        yield f"{count} images share a group with test images, so they are used nowhere."


def _notes_on_classes(rows: Sequence[Row]) -> Iterator[str]:
    used = [split for split in SPLITS if any(row.split == split for row in rows)]
    splits_of: dict[str, Counter[str]] = defaultdict(Counter)
    pieces: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits_of[row.label][row.split] += 1
        pieces[row.label].add(row.group or row.image)
    for label, counts in sorted(splits_of.items()):
        if label and (missing := [split for split in used if not counts[split]]):
            has = ", ".join(f"{counts[split]} in {split}" for split in used if counts[split])
            size = f"{counts.total()} images in {len(pieces[label])} pieces that can move alone"
            yield f"Class {label!r} is not in every split ({size}): {has}; none in {' and '.join(missing)}."


def _notes_on_few(rows: Sequence[Row], count: int) -> Iterator[str]:
    for label, images in sorted(_training_images(rows).items()):
        if len(images) < count:
            yield f"Class {label!r} has {len(images)} of {count} training images: all are kept."
