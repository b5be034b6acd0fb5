"""Carving validation or test rows out of a split: seeded, stratified by label, groups kept whole.

The choice depends on the seed and on the images' paths, labels and groups, never on the rows' order or the machine.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from mnsa.data.manifest import Row
from mnsa.errors import DataError


def carve_validation(rows: Sequence[Row], *, share: float = 0.2, seed: int) -> tuple[Row, ...]:
    """Move a share of the training rows to `val`; see `carve`."""
    return carve(rows, source="train", target="val", share=share, seed=seed)


def carve(rows: Sequence[Row], *, source: str, target: str, share: float, seed: int) -> tuple[Row, ...]:
    """Move about `share` of the rows of split `source` to split `target`; the order stays.

    Every class keeps at least one row in `source`; a class of a few images gives one as often as `share` allows.
    Groups move whole, so their sizes decide how near the share is met. Raises: DataError for a share outside 0..1.
    """
    if not 0 < share < 1:
        raise DataError(f"The share to carve out of {source} is {share}; expected a number between 0 and 1.")
    rng = random.Random(seed)  # noqa: S311 - a split is no secret
    units = units_of([row for row in rows if row.split == source])
    rng.shuffle(units)
    moved = {row.image for unit in _choose(units, share, rng) for row in unit}
    return tuple(replace(row, split=target) if row.image in moved else row for row in rows)


def units_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Collect what can only move together: the rows of a group, or a row alone; in an order of their own."""
    units: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        units[("group", row.group) if row.group else ("image", row.image)].append(row)
    return [units[key] for key in sorted(units)]


def _choose(units: list[list[Row]], share: float, rng: random.Random) -> list[list[Row]]:
    """Take every unit that brings its classes nearer to their quotas and leaves each of them a row."""
    left = Counter(row.label for unit in units for row in unit)
    lacking = _quotas(left, share, rng)
    chosen = []
    for unit in units:
        labels = Counter(row.label for row in unit)
        gain = sum(abs(lacking[label]) - abs(lacking[label] - count) for label, count in labels.items())
        if gain >= 0 and any(lacking[label] > 0 for label in labels) and _spares(left, labels):
            chosen.append(unit)
            left -= labels
            lacking.subtract(labels)
    if chosen:
        return chosen
    smallest = sorted(units, key=len)  # groups too large for any quota: one is better than none
    return [unit for unit in smallest if _spares(left, Counter(row.label for row in unit))][:1]


def _spares(left: Counter[str], labels: Counter[str]) -> bool:
    return all(left[label] > count for label, count in labels.items())


def _quotas(sizes: Counter[str], share: float, rng: random.Random) -> Counter[str]:
    """Apportion by largest remainder, so that 200 classes of four images give a fifth in all, not none or a quarter."""
    labels = sorted(sizes)
    rng.shuffle(labels)  # which of the equal remainders win
    quotas = Counter({label: min(math.floor(share * sizes[label]), sizes[label] - 1) for label in labels})
    seats = round(share * sizes.total()) - quotas.total()
    for label in sorted(labels, key=lambda label: math.floor(share * sizes[label]) - share * sizes[label]):
        if seats > 0 and quotas[label] < sizes[label] - 1:
            quotas[label] += 1
            seats -= 1
    return quotas
