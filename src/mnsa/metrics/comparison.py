"""Is one network better than another? Paired differences over the images that both were evaluated on.

Differences are second minus first. G groups of images, such as the photos of one plant; an image without a group is
a group by itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from mnsa.errors import DataError
from mnsa.metrics.scoring import bootstrap_interval

ImageCells = Mapping[str, str]  # a row of images.csv

_PERMUTATIONS = 10_000
_MEASURES = ("iou", "cldice", "betti0_error", "betti1_error")  # columns of images.csv: these, or these with a class


@dataclass(frozen=True, slots=True)
class Comparison:
    """One score of two networks, or of two sets of runs with different seeds.

    name: `accuracy`, or a column of images.csv. first, second: means over images and runs. interval: of the
    difference, 95 %, when groups of images are drawn again; None for one group. p_value: how often a difference as
    large occurs when the sign of each group's difference is random. seed_interval: of the difference when runs are
    drawn again (Welch's t); None unless both sides have two runs or more. images, groups: how many have the score on
    both sides.
    """

    name: str
    first: float
    second: float
    interval: tuple[float, float] | None
    p_value: float
    seed_interval: tuple[float, float] | None
    images: int
    groups: int

    @property
    def difference(self) -> float:
        """The mean of second minus first."""
        return self.second - self.first


def compare_runs(first: Sequence[Sequence[ImageCells]], second: Sequence[Sequence[ImageCells]]) -> list[Comparison]:
    """Compare the rows of images.csv of two sets of runs. Sources: see `bootstrap_interval` and `permutation_p_value`.

    Raises: DataError when the runs were not evaluated on the same images, or have no score in common.
    """
    tables = [{row["image"]: row for row in rows} for rows in (*first, *second)]
    images = list(tables[0])
    if any(table.keys() != tables[0].keys() for table in tables[1:]):
        raise DataError(
            "The runs were evaluated on different images, so these can't be paired. Evaluate all runs on one data set: "
            "mnsa evaluate RUN --data DATA."
        )
    groups = [tables[0][image].get("group") or f"image {index}" for index, image in enumerate(images)]
    comparisons = []
    for name, value in _measures(tables[0].values()).items():
        values = np.array([[value(table[image]) for image in images] for table in tables])  # (runs, images)
        known = ~np.isnan(values).any(axis=0)
        if known.any():
            indices = np.unique(np.array(groups)[known], return_inverse=True)[1]
            comparisons.append(_compare(name, values[: len(first), known], values[len(first) :, known], indices))
    if not comparisons:
        raise DataError("The runs have no score in common. Evaluate runs with the same tasks.")
    return comparisons


def permutation_p_value(sums: np.ndarray, *, permutations: int = _PERMUTATIONS, seed: int = 0) -> float:
    """Two-sided p-value of paired differences by random signs. sums: sum of the differences in each group (G,).

    Up to 13 groups all signs are tried. Source: E. J. G. Pitman, "Significance tests which may be applied to samples
    from any populations", Supplement to the Journal of the Royal Statistical Society 4 (1937).
    """
    if 2 ** len(sums) <= permutations:
        signs = 1 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
        return float(np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12))
    rng = np.random.default_rng(seed)
    batches = (rng.choice((-1, 1), (1000, len(sums))) @ sums for _ in range(permutations // 1000))
    extreme = sum(int((np.abs(batch) >= abs(sums.sum()) - 1e-12).sum()) for batch in batches)
    return (extreme + 1) / (permutations // 1000 * 1000 + 1)


def _measures(rows: Iterable[ImageCells]) -> dict[str, Callable[[ImageCells], float]]:
    """What is measured of an image, by name: NaN where it does not exist."""
    columns = dict.fromkeys(name for row in rows for name in row)
    measured = [name for name in columns if name in _MEASURES or name.startswith(tuple(f"{m}_" for m in _MEASURES))]
    return {"accuracy": _is_correct, **{name: partial(_number, name) for name in measured}}


def _number(name: str, row: ImageCells) -> float:
    return float(row.get(name) or "nan")


def _is_correct(row: ImageCells) -> float:
    label, predicted = row.get("label"), row.get("predicted")
    return float(label == predicted) if label and predicted else float("nan")


def _compare(name: str, first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Comparison:
    """Compare values (runs, images). groups: index of each image's group."""
    differences = second.mean(axis=0) - first.mean(axis=0)
    sums = np.bincount(groups, weights=differences)
    seed_interval = None
    if min(len(first), len(second)) >= 2:
        means = first.mean(axis=1), second.mean(axis=1)
        seed_interval = _welch_interval(*means)
    return Comparison(
        name, float(first.mean()), float(second.mean()),
        bootstrap_interval(lambda images: float(differences[images].mean()), groups), permutation_p_value(sums),
        seed_interval, first.shape[1], len(sums),
    )  # fmt: skip


def _welch_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % interval of the difference of two means, whose samples have different variances."""
    difference = float(second.mean() - first.mean())
    if first.std() == second.std() == 0:
        return difference, difference
    low, high = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    return float(low), float(high)
