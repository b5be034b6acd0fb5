"""Split the rows of a data set into train, val and test: hold-out, k folds, few images per class.

A split is random with a seed and stratified by label, and a group is never divided. It depends on the paths, labels and
groups of the images, not on the order of the rows or on the machine.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mnsa.data.rows import SPLITS, Row
from mnsa.errors import DataError

DEFAULT_VAL_FRACTION = 0.2


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """What `split_rows` does. None: not used.

    val_fraction: fraction that becomes val: of all rows if test_fraction is given, else of the rows outside of test.
    test_fraction: fraction of all rows that becomes test; None keeps the test rows.
    num_folds, fold: divide the rows outside of test into `num_folds` folds; number `fold`, from 0, becomes val.
    train_per_class: training images of each class that stay; the others become unused (split is empty).
    """

    val_fraction: float | None = None
    test_fraction: float | None = None
    num_folds: int | None = None
    fold: int | None = None
    train_per_class: int | None = None

    def __post_init__(self) -> None:
        """Refuse a plan that contradicts itself. Raises: DataError."""
        if (self.num_folds is None) != (self.fold is None):
            raise DataError(
                "num_folds and fold must be given together: the number of folds, and which one becomes val."
            )
        if self.num_folds is not None and self.fold is not None and not 0 <= self.fold < self.num_folds:
            raise DataError(f"fold is {self.fold}; with {self.num_folds} folds expected 0 to {self.num_folds - 1}.")
        if self.num_folds is not None and self.val_fraction is not None:
            raise DataError("val_fraction and num_folds both define val. Give only one of them.")
        if not self.assigns_splits and self.train_per_class is None:
            raise DataError(
                "Nothing to split. Give val_fraction, test_fraction, num_folds and fold, or train_per_class."
            )
        if (self.val_fraction or 0) + (self.test_fraction or 0) >= 1:
            fractions = f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction}"
            raise DataError(f"{fractions} leave no training images. Make them smaller.")

    @property
    def assigns_splits(self) -> bool:
        """Whether rows get new splits; otherwise only the number of training images changes."""
        return any(value is not None for value in (self.val_fraction, self.test_fraction, self.num_folds))


def split_rows(rows: Sequence[Row], plan: SplitPlan, *, seed: int) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Assign a split to every row; the order stays.

    Returns: the rows, and notes for the user about small classes and groups.
    Raises: DataError when classes and groups leave no rows for test or val.
    """
    assigned = tuple(rows)
    if plan.assigns_splits:
        assigned = _assign_val(_assign_test(assigned, plan, seed), plan, seed)
    notes = [*_group_notes(assigned), *_class_notes(assigned)]
    if plan.train_per_class is not None:
        notes.extend(_few_images_notes(assigned, plan.train_per_class))
        assigned = _limit_train(assigned, plan.train_per_class, seed)
    return assigned, tuple(notes)


def hold_out_validation(rows: Sequence[Row], *, fraction: float = DEFAULT_VAL_FRACTION, seed: int) -> tuple[Row, ...]:
    """Move a fraction of the training rows to `val`; see `hold_out`."""
    return hold_out(rows, source="train", target="val", fraction=fraction, seed=seed)


def hold_out(rows: Sequence[Row], *, source: str, target: str, fraction: float, seed: int) -> tuple[Row, ...]:
    """Move about `fraction` of the rows of split `source` to split `target`; the order stays.

    Every class keeps at least one row in `source`. Groups are moved as a whole, so large groups may change the
    fraction. Raises: DataError when the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"The fraction to hold out of {source} is {fraction}; expected a number between 0 and 1.")
    rng = random.Random(seed)  # noqa: S311 - no cryptography
    groups = group_rows([row for row in rows if row.split == source])
    rng.shuffle(groups)
    moved = {row.image for group in _choose_held_out(groups, fraction, rng) for row in group}
    return tuple(replace(row, split=target) if row.image in moved else row for row in rows)


def group_rows(rows: Iterable[Row]) -> list[list[Row]]:
    """Collect the rows of each group; a row without a group is alone. Sorted by the name of group or image."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[("group", row.group) if row.group else ("image", row.image)].append(row)
    return [groups[key] for key in sorted(groups)]


def _choose_held_out(groups: list[list[Row]], fraction: float, rng: random.Random) -> list[list[Row]]:
    """Choose each group that brings its classes closer to their quotas and leaves at least one row of each."""
    left = Counter(row.label for group in groups for row in group)
    missing = _class_quotas(left, fraction, rng)
    chosen = []
    for group in groups:
        labels = Counter(row.label for row in group)
        gain = sum(abs(missing[label]) - abs(missing[label] - count) for label, count in labels.items())
        if gain >= 0 and any(missing[label] > 0 for label in labels) and _leaves_every_class(left, labels):
            chosen.append(group)
            left -= labels
            missing.subtract(labels)
    if chosen:
        return chosen
    by_size = sorted(groups, key=len)  # every group is larger than its quota: hold out the smallest
    return [group for group in by_size if _leaves_every_class(left, Counter(row.label for row in group))][:1]


def _leaves_every_class(left: Counter[str], labels: Counter[str]) -> bool:
    return all(left[label] > count for label, count in labels.items())


def _class_quotas(sizes: Counter[str], fraction: float, rng: random.Random) -> Counter[str]:
    """Compute how many rows of each class to hold out, by the largest remainder method.

    Rounding each class by itself would give 200 classes of four images no row, or 200, where `fraction` asks for 160.
    """
    labels = sorted(sizes)
    rng.shuffle(labels)  # order of equal remainders
    quotas = Counter({label: min(math.floor(fraction * sizes[label]), sizes[label] - 1) for label in labels})
    unassigned = round(fraction * sizes.total()) - quotas.total()
    for label in sorted(labels, key=lambda label: math.floor(fraction * sizes[label]) - fraction * sizes[label]):
        if unassigned > 0 and quotas[label] < sizes[label] - 1:
            quotas[label] += 1
            unassigned -= 1
    return quotas


def _assign_test(rows: Sequence[Row], plan: SplitPlan, seed: int) -> tuple[Row, ...]:
    """Assign new test rows or keep the old ones. All other rows become train, or unused if their group is in test."""
    if plan.test_fraction is not None:
        train = [replace(row, split="train") for row in rows]
        held_out = hold_out(train, source="train", target="test", fraction=plan.test_fraction, seed=seed)
        return _require_split(held_out, "test")
    groups_in_test = _groups_in_test(rows)
    return tuple(
        row if row.split == "test" else replace(row, split="" if row.group in groups_in_test else "train")
        for row in rows
    )


def _assign_val(rows: Sequence[Row], plan: SplitPlan, seed: int) -> tuple[Row, ...]:
    if plan.num_folds is not None:
        fold_of = _assign_folds([row for row in rows if row.split == "train"], plan.num_folds, seed)
        assigned = tuple(replace(row, split="val") if fold_of.get(row.image) == plan.fold else row for row in rows)
        return _require_split(assigned, "val")
    val_fraction = DEFAULT_VAL_FRACTION if plan.val_fraction is None else plan.val_fraction
    fraction = val_fraction / (1 - (plan.test_fraction or 0))
    return _require_split(hold_out(rows, source="train", target="val", fraction=fraction, seed=seed), "val")


def _require_split(rows: tuple[Row, ...], split: str) -> tuple[Row, ...]:
    if not any(row.split == split for row in rows):
        raise DataError(
            f"No row can be {split}: train needs at least one row of every class, and groups are not divided. "
            "Add images, correct the groups, or use fewer folds."
        )
    return rows


def _assign_folds(rows: Sequence[Row], num_folds: int, seed: int) -> dict[str, int]:
    """Assign folds, stratified by label: image -> fold. A group that is needed in train is in no fold."""
    groups = group_rows(rows)
    random.Random(seed).shuffle(groups)  # noqa: S311 - no cryptography
    groups.sort(key=lambda group: (-len(group), min(row.label for row in group)))  # large groups first, by class
    groups_of_class = Counter(label for group in groups for label in {row.label for row in group})
    images: list[Counter[str]] = [Counter() for _ in range(num_folds)]  # of each fold, images per class
    groups_in: list[Counter[str]] = [Counter() for _ in range(num_folds)]  # of each fold, groups per class
    fold_of: dict[str, int] = {}
    for group in groups:
        labels = Counter(row.label for row in group)
        allowed = [
            n for n in range(num_folds) if all(groups_in[n][name] + 1 < groups_of_class[name] for name in labels)
        ]
        if allowed:
            load = {n: (sum(images[n][name] * labels[name] for name in labels), images[n].total()) for n in allowed}
            fold = min(allowed, key=load.__getitem__)
            images[fold] += labels
            groups_in[fold].update(labels.keys())
            fold_of.update({row.image: fold for row in group})
    return fold_of


def _limit_train(rows: Sequence[Row], count: int, seed: int) -> tuple[Row, ...]:
    """Keep `count` training rows of each class. A larger count keeps the rows of a smaller one, and more."""
    kept: set[str] = set()
    for label, images in _train_images_by_class(rows).items():
        random.Random(f"{seed}/{label}").shuffle(images)  # noqa: S311 - no cryptography
        kept.update(images[:count])
    return tuple(replace(row, split="") if row.split == "train" and row.image not in kept else row for row in rows)


def _train_images_by_class(rows: Iterable[Row]) -> dict[str, list[str]]:
    images: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.image):
        if row.split == "train":
            images[row.label].append(row.image)
    return images


def _groups_in_test(rows: Iterable[Row]) -> set[str]:
    return {row.group for row in rows if row.split == "test" and row.group}


def _group_notes(rows: Sequence[Row]) -> Iterator[str]:
    groups_in_test = _groups_in_test(rows)
    if count := sum(not row.split and row.group in groups_in_test for row in rows):
        yield f"{count} images are unused, because their group is in test."


def _class_notes(rows: Sequence[Row]) -> Iterator[str]:
    used = [split for split in SPLITS if any(row.split == split for row in rows)]
    rows_of_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of_class[row.label].append(row)
    for label, of_class in sorted(rows_of_class.items()):
        counts = Counter(row.split for row in of_class)
        if label and (missing := [split for split in used if not counts[split]]):
            present = ", ".join(f"{counts[split]} in {split}" for split in used if counts[split])
            size = f"{len(of_class)} images, {len(group_rows(of_class))} groups or single images"
            yield f"Class {label!r} is not in every split ({size}): {present}; none in {' and '.join(missing)}."


def _few_images_notes(rows: Sequence[Row], count: int) -> Iterator[str]:
    for label, images in sorted(_train_images_by_class(rows).items()):
        if len(images) < count:
            yield f"Class {label!r} has only {len(images)} of {count} training images. All are kept."
