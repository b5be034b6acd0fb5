"""Assign rows to train, val and test: hold-out, k folds, a few images per class.

Seeded, stratified by label, groups kept whole. The result depends on the images' paths, labels and groups, never on the
order of the rows or on the machine.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mnsa.data.rows import SPLITS, Row
from mnsa.errors import DataError


def hold_out_validation(rows: Sequence[Row], *, fraction: float = 0.2, seed: int) -> tuple[Row, ...]:
    """Move a fraction of the training rows to `val`; see `hold_out`."""
    return hold_out(rows, source="train", target="val", fraction=fraction, seed=seed)


def hold_out(rows: Sequence[Row], *, source: str, target: str, fraction: float, seed: int) -> tuple[Row, ...]:
    """Move about `fraction` of the rows of split `source` to split `target`; the order stays.

    Every class keeps at least one row in `source`; a class of a few images gives one as often as `fraction` allows.
    Groups move whole, so the fraction is met as far as their sizes allow.
    Raises: DataError for a fraction outside 0..1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"The fraction to hold out of {source} is {fraction}; expected a number between 0 and 1.")
    rng = random.Random(seed)  # noqa: S311 - a split is no secret
    groups = group_rows([row for row in rows if row.split == source])
    rng.shuffle(groups)
    moved = {row.image for group in _choose_held_out(groups, fraction, rng) for row in group}
    return tuple(replace(row, split=target) if row.image in moved else row for row in rows)


def group_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Collect what can only move together: the rows of a group, or a row alone; in an order of their own."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[("group", row.group) if row.group else ("image", row.image)].append(row)
    return [groups[key] for key in sorted(groups)]


def _choose_held_out(groups: list[list[Row]], fraction: float, rng: random.Random) -> list[list[Row]]:
    """Take every group that brings its classes nearer to their quotas and leaves each of them a row."""
    left = Counter(row.label for group in groups for row in group)
    lacking = _quotas(left, fraction, rng)
    chosen = []
    for group in groups:
        labels = Counter(row.label for row in group)
        gain = sum(abs(lacking[label]) - abs(lacking[label] - count) for label, count in labels.items())
        if gain >= 0 and any(lacking[label] > 0 for label in labels) and _keeps_every_class(left, labels):
            chosen.append(group)
            left -= labels
            lacking.subtract(labels)
    if chosen:
        return chosen
    smallest = sorted(groups, key=len)  # groups too large for any quota: one is better than none
    return [group for group in smallest if _keeps_every_class(left, Counter(row.label for row in group))][:1]


def _keeps_every_class(left: Counter[str], labels: Counter[str]) -> bool:
    return all(left[label] > count for label, count in labels.items())


def _quotas(sizes: Counter[str], fraction: float, rng: random.Random) -> Counter[str]:
    """Apportion by largest remainder, so that 200 classes of four images give a fifth in all, not none or a quarter."""
    labels = sorted(sizes)
    rng.shuffle(labels)  # which of the equal remainders win
    quotas = Counter({label: min(math.floor(fraction * sizes[label]), sizes[label] - 1) for label in labels})
    seats = round(fraction * sizes.total()) - quotas.total()
    for label in sorted(labels, key=lambda label: math.floor(fraction * sizes[label]) - fraction * sizes[label]):
        if seats > 0 and quotas[label] < sizes[label] - 1:
            quotas[label] += 1
            seats -= 1
    return quotas


DEFAULT_VAL_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How to split. None: not asked for.

    test: fraction of all rows; None: what is test stays test. val: fraction of the rows that are assigned anew.
    folds, fold: fold number `fold` of `folds`, counted from 0, becomes val. few_shot: training images per class that
    stay; the others are kept and used nowhere.
    """

    val: float | None = None
    test: float | None = None
    folds: int | None = None
    fold: int | None = None
    few_shot: int | None = None

    def validate(self) -> None:
        """Refuse what contradicts itself. Raises: DataError."""
        if (self.folds is None) != (self.fold is None):
            raise DataError("--num-folds and --fold belong together: how many there are, and which of them is val.")
        if self.folds is not None and self.fold is not None and not 0 <= self.fold < self.folds:
            raise DataError(f"--fold is {self.fold}; of {self.folds} folds expected 0 to {self.folds - 1}.")
        if self.folds is not None and self.val is not None:
            raise DataError("--val-fraction and --num-folds both say what becomes val. Give one of them.")
        if all(wish is None for wish in (self.val, self.test, self.folds, self.few_shot)):
            raise DataError(
                "Nothing to split. Give --val-fraction and --test-fraction, --num-folds and --fold, or --train-per-class."
            )
        if (self.val or 0) + (self.test or 0) >= 1:
            raise DataError(
                f"--val-fraction {self.val} and --test-fraction {self.test} leave nothing to train. Make them smaller."
            )


def split_rows(rows: Sequence[Row], plan: SplitPlan, *, seed: int) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Give every row its split; the second is what to know of small classes and of groups.

    Raises: DataError for a plan without sense, or one that groups make impossible.
    """
    plan.validate()
    assigned = tuple(rows)
    if plan.val is not None or plan.test is not None or plan.folds is not None:
        assigned = _assign_validation(_assign_test(assigned, plan, seed), plan, seed)
    notes = [*_group_notes(assigned), *_class_notes(assigned)]
    if plan.few_shot is not None:
        notes.extend(_few_shot_notes(assigned, plan.few_shot))
        assigned = _keep_few_shots(assigned, plan.few_shot, seed)
    return assigned, tuple(notes)


def _assign_test(rows: Sequence[Row], plan: SplitPlan, seed: int) -> tuple[Row, ...]:
    """Assign or keep the test rows. Every other row is `train`, or unused where its group is in test."""
    if plan.test is not None:
        mixed = [replace(row, split="train") for row in rows]
        return _require_split(hold_out(mixed, source="train", target="test", fraction=plan.test, seed=seed), "test")
    tested = {row.group for row in rows if row.split == "test" and row.group}
    others = {True: "", False: "train"}
    return tuple(row if row.split == "test" else replace(row, split=others[row.group in tested]) for row in rows)


def _assign_validation(rows: Sequence[Row], plan: SplitPlan, seed: int) -> tuple[Row, ...]:
    if plan.folds is not None:
        held_out = _assign_folds([row for row in rows if row.split == "train"], plan.folds, seed)
        chosen = [replace(row, split="val") if held_out.get(row.image) == plan.fold else row for row in rows]
        return _require_split(tuple(chosen), "val")
    fraction = (DEFAULT_VAL_FRACTION if plan.val is None else plan.val) / (1 - (plan.test or 0))
    return _require_split(hold_out(rows, source="train", target="val", fraction=fraction, seed=seed), "val")


def _require_split(rows: tuple[Row, ...], split: str) -> tuple[Row, ...]:
    if not any(row.split == split for row in rows):
        raise DataError(
            f"No row can be {split}: every class or group is needed whole in train. "
            "Add images, correct the groups, or ask for fewer folds."
        )
    return rows


def _assign_folds(rows: Sequence[Row], folds: int, seed: int) -> dict[str, int]:
    """Fold of each image, all classes spread alike; what would take the last of a class out of train is in no fold."""
    groups = group_rows(rows)
    random.Random(seed).shuffle(groups)  # noqa: S311 - a split is no secret
    groups.sort(key=lambda group: (-len(group), min(row.label for row in group)))  # class by class
    pieces = Counter(label for group in groups for label in {row.label for row in group})
    held: list[Counter[str]] = [Counter() for _ in range(folds)]  # images of each class
    pieces_held: list[Counter[str]] = [Counter() for _ in range(folds)]
    fold_of: dict[str, int] = {}
    for group in groups:
        labels = Counter(row.label for row in group)
        free = [n for n in range(folds) if all(pieces_held[n][label] + 1 < pieces[label] for label in labels)]
        if free:
            crowd = {n: (sum(held[n][label] * labels[label] for label in labels), held[n].total()) for n in free}
            fold = min(free, key=crowd.__getitem__)
            held[fold] += labels
            pieces_held[fold].update(labels.keys())
            fold_of.update({row.image: fold for row in group})
    return fold_of


def _keep_few_shots(rows: Sequence[Row], count: int, seed: int) -> tuple[Row, ...]:
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


def _group_notes(rows: Sequence[Row]) -> Iterator[str]:
    tested = {row.group for row in rows if row.split == "test" and row.group}
    if count := sum(not row.split and row.group in tested for row in rows):
        yield f"{count} images share a group with test images, so they are used nowhere."


def _class_notes(rows: Sequence[Row]) -> Iterator[str]:
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


def _few_shot_notes(rows: Sequence[Row], count: int) -> Iterator[str]:
    for label, images in sorted(_training_images(rows).items()):
        if len(images) < count:
            yield f"Class {label!r} has {len(images)} of {count} training images: all are kept."
