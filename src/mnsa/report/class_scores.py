"""What a confusion matrix says of each class. K classes; rows are true classes, columns predicted ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ClassScore(NamedTuple):
    """One class; None: nothing to score it by. images: those that are of it; said: those that were called so."""

    name: str
    images: int
    said: int
    recall: float | None
    precision: float | None
    f1: float | None
    mostly: str  # what its images are taken for most often, when wrong


class Mistaken(NamedTuple):
    """Images of class `true` that were called `said`; share of that class."""

    true: str
    said: str
    images: int
    share: float


def class_scores(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Recall, precision and F1 of each class, the worst F1 first; classes without an image last."""
    counts = np.asarray(confusion)
    images, said, right = counts.sum(1), counts.sum(0), counts.diagonal()
    wrong = counts - np.diag(right)
    scores = [
        ClassScore(
            name, int(images[k]), int(said[k]), _share(right[k], images[k]), _share(right[k], said[k]),
            _share(2 * right[k], images[k] + said[k]), names[wrong[k].argmax()] if wrong[k].any() else "",
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    return sorted(scores, key=lambda one: (one.images == 0, 0.0 if one.f1 is None else one.f1, one.recall or 0.0))


def most_confused(names: Sequence[str], confusion: Sequence[Sequence[int]], count: int) -> list[Mistaken]:
    """The pairs of classes that are mistaken most often, at most `count` of them."""
    counts = np.asarray(confusion)
    wrong = counts - np.diag(counts.diagonal())
    pairs = [(int(true), int(said)) for true, said in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-wrong[pair], -wrong[pair] / counts[pair[0]].sum(), pair))
    return [
        Mistaken(names[t], names[s], int(wrong[t, s]), float(wrong[t, s] / counts[t].sum())) for t, s in pairs[:count]
    ]


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
