"""Paired comparison of runs: against SciPy's permutation test, and by cases with a known answer."""

import numpy as np
import pytest
from scipy import stats

from mnsa.errors import DataError
from mnsa.metrics.comparison import compare_runs, permutation_p_value

Rows = list[dict[str, str]]


def test_each_score_is_compared_as_second_minus_first() -> None:
    first = _rows(predicted="abab", iou=[0.5, 0.6, 0.7, 0.8])
    second = _rows(predicted="aabb", iou=[0.6, 0.7, 0.8, 0.9])

    accuracy, iou = compare_runs([first], [second])

    assert (accuracy.name, accuracy.first, accuracy.second) == ("accuracy", 0.5, 1.0)
    assert iou.difference == pytest.approx(0.1)
    assert iou.interval == pytest.approx((0.1, 0.1))
    assert iou.p_value == 2 / 16  # all signs equal: 2 of 16
    assert (iou.images, iou.groups, iou.seed_interval) == (4, 4, None)


def test_equal_runs_differ_by_nothing() -> None:
    rows = _rows(predicted="abab", iou=[0.1, 0.2, 0.3, 0.4])

    for one in compare_runs([rows], [rows]):
        assert (one.difference, one.p_value) == (0, 1)


def test_the_order_of_the_images_does_not_matter() -> None:
    first, second = _rows(iou=[0.5, 0.6, 0.7, 0.8]), _rows(iou=[0.55, 0.6, 0.9, 0.8])

    assert compare_runs([first], [second]) == compare_runs([first], [second[::-1]])


def test_images_of_one_group_count_as_one() -> None:
    first, second = _rows(iou=[0.5] * 8, groups="ppppqqqq"), _rows(iou=[0.6] * 8, groups="ppppqqqq")

    (one,) = compare_runs([first], [second])

    assert (one.images, one.groups) == (8, 2)
    assert one.p_value == 0.5


def test_images_without_a_score_on_both_sides_are_left_out() -> None:
    first, second = _rows(iou=[0.5, 0.5, None]), _rows(iou=[None, 0.7, 0.9])

    (one,) = compare_runs([first], [second])

    assert one.images == 1
    assert one.difference == pytest.approx(0.2)


def test_the_interval_over_seeds_is_that_of_welch() -> None:
    means = [0.50, 0.52, 0.54], [0.60, 0.61, 0.65]

    (one,) = compare_runs(*([_rows(iou=[mean, mean]) for mean in side] for side in means))

    expected = stats.ttest_ind(means[1], means[0], equal_var=False).confidence_interval(0.95)
    assert one.seed_interval == pytest.approx(tuple(expected))


@pytest.mark.parametrize("groups", [9, 40])
def test_p_values_are_those_of_scipy(groups: int) -> None:
    sums = np.random.default_rng(groups).normal(0.3, 1, groups)

    expected = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    ).pvalue

    assert permutation_p_value(sums) == pytest.approx(expected, abs=0.02)


def test_different_images_are_refused() -> None:
    with pytest.raises(DataError, match="different images"):
        compare_runs([_rows(iou=[0.5])], [_rows(iou=[0.5, 0.6])])


def test_runs_without_a_common_score_are_refused() -> None:
    with pytest.raises(DataError, match="no score in common"):
        compare_runs([_rows(iou=[0.5])], [_rows(predicted="a")])


def _rows(*, predicted: str = "", iou: list[float | None] | None = None, groups: str = "") -> Rows:
    count = len(predicted or iou or ())
    rows: Rows = [{"image": f"{index}.png"} for index in range(count)]
    for index, row in enumerate(rows):
        if predicted:
            row |= {"label": "aabb"[index], "predicted": predicted[index]}
        if iou:
            row["iou"] = "" if iou[index] is None else str(iou[index])
        if groups:
            row["group"] = groups[index]
    return rows
