"""A distribution in five numbers counts every value as often as its weight says."""

import numpy as np
import pytest

from mnsa.traits.records import spread


def test_weights_count_like_repetitions():
    values = np.sort(np.random.default_rng(1).standard_normal(400))
    weights = np.arange(400) % 5
    found, repeated = spread(values, weights.astype(float)), np.repeat(values, weights)
    assert found.mean == pytest.approx(repeated.mean())
    assert found.sd == pytest.approx(repeated.std())
    assert (found.p05, found.p50, found.p95) == pytest.approx(np.quantile(repeated, [0.05, 0.5, 0.95]), abs=0.1)


def test_percentiles_without_weights_are_numpys():
    values = np.random.default_rng(2).standard_normal(2001)
    found = spread(values)
    assert (found.p05, found.p50, found.p95) == pytest.approx(np.quantile(values, [0.05, 0.5, 0.95]), abs=0.01)


def test_values_that_count_nothing_change_nothing():
    values = np.array([100.0, 2.0, 3.0, -50.0])
    assert spread(values, np.array([0, 1, 1, 0])) == spread(np.array([2.0, 3.0]))


def test_nothing_is_described_by_nothing():
    assert np.isnan(spread(np.empty(0))).all()
    assert np.isnan(spread(np.ones(3), np.zeros(3))).all()
