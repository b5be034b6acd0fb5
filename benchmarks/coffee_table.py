"""The tables of `coffee.py`: scores per seed, their mean with a confidence interval, and the paired difference.

Claim: none; imported by `coffee.py`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t

from mnsa.metrics.scores import Evaluation
from scoring import SPLITS

COLUMNS = ("accuracy", "macro-F1", "IoU leaf", "IoU symptom", "IoU symptom, per image")
HEADER = f"| | {' | '.join(COLUMNS)} | training, min |\n|---{'|---' * (len(COLUMNS) + 1)}|"


class Result(NamedTuple):
    """One training: method, seed, minutes (None for a resumed one, which has no total time), and scores."""

    method: str
    seed: int
    train_seconds: float | None
    scores: dict[str, Any]  # split -> its entry of evaluation.json


class Estimate(NamedTuple):
    """A mean over seeds and half the width of its 95 % interval, None when there is a single seed."""

    mean: float
    half_width: float | None

    def text(self, digits: int) -> str:
        """Write as `mean ± half width`, or as a dash when one of the numbers is unknown (NaN)."""
        if math.isnan(self.mean):
            return "-"
        width = "" if self.half_width is None else f" ± {self.half_width:.{digits}f}"
        return f"{self.mean:.{digits}f}{width}"


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean that other seeds would give, by Student's t distribution."""
    count = len(values)
    if count < 2:
        return Estimate(values[0], None)
    error = float(np.std(values, ddof=1)) / count**0.5
    return Estimate(float(np.mean(values)), float(t.ppf(0.975, count - 1)) * error)


def markdown(results: Sequence[Result]) -> str:
    """Lay out one table per split: a line per training, then a line per method, then the difference."""
    return "\n\n".join(_table(results, split) for split in SPLITS)


def _table(results: Sequence[Result], split: str) -> str:
    lines = [f"**{split}**, {results[0].scores[split]['images']} images\n", HEADER]
    rows: dict[str, list[list[float]]] = {}
    for method in dict.fromkeys(result.method for result in results):
        own = [result for result in results if result.method == method]
        rows[method] = [_numbers(result, split) for result in own]
        lines += [_line(f"{method}, seed {one.seed}", [row]) for one, row in zip(own, rows[method], strict=True)]
        lines.append(_line(f"**{method}, mean of {len(own)}**", rows[method]))
    if len(rows) == 2:
        lines.append(_line(f"**{' - '.join(rows)}**", _differences(*rows.values())))
    return "\n".join(lines)


def _differences(first: list[list[float]], second: list[list[float]]) -> list[list[float]]:
    """Subtract seed by seed: both methods met the same seeds in the same order."""
    return [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]


def _numbers(result: Result, split: str) -> list[float]:
    """Return the numbers of a table line; NaN for missing ones."""
    value = Evaluation.from_dict(result.scores[split]).value
    minutes = None if result.train_seconds is None else result.train_seconds / 60
    ious = value("iou", "leaf"), value("iou", "symptom"), value("iou_per_image", "symptom")
    known = value("accuracy"), value("macro_f1"), *ious, minutes
    return [math.nan if number is None else number for number in known]


def _line(name: str, rows: Sequence[Sequence[float]]) -> str:
    """Write one line: the estimate from each column of `rows`, minutes with a single decimal."""
    *scores, minutes = (estimate(column) for column in zip(*rows, strict=True))
    cells = [*(found.text(3) for found in scores), minutes.text(1)]
    return f"| {name} | {' | '.join(cells)} |"
