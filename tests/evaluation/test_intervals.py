"""The bootstrap interval covers what theory says it covers."""

import math

import numpy as np
import pytest

from mnsa.evaluation.intervals import bootstrap_interval


def test_the_interval_of_a_mean_is_the_normal_one_for_many_images():
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    low, high = bootstrap_interval(lambda drawn: float(values[drawn].mean()), len(values))
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_same_images_give_the_same_interval():
    values = np.arange(10.0)
    first, second = (bootstrap_interval(lambda drawn: float(values[drawn].mean()), 10) for _ in range(2))
    assert first == second


def test_a_score_that_never_exists_has_no_interval():
    assert all(math.isnan(bound) for bound in bootstrap_interval(lambda drawn: math.nan, 5))
