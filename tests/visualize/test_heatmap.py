"""Heatmaps: the largest value is the lightest, at its own place."""

from collections.abc import Callable

import numpy as np
import pytest

from mnsa.visualize.heatmap import draw_heatmap, normalize_by_max, normalize_min_max


def test_min_max_fills_0_to_1_and_by_max_keeps_0() -> None:
    values = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    np.testing.assert_allclose(normalize_min_max(values), [[0, 0.25], [0.5, 1]])
    np.testing.assert_allclose(normalize_by_max(values), values / 5)


@pytest.mark.parametrize("normalize", [normalize_min_max, normalize_by_max])
def test_a_map_of_zeros_stays_zero(normalize: Callable[[np.ndarray], np.ndarray]) -> None:
    assert not normalize(np.zeros((2, 3), np.float32)).any()


def test_large_values_are_lighter_at_their_own_place() -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    drawn = draw_heatmap(image, np.array([[0, 0, 0], [0, 0, 1.0]], np.float32)).astype(float)
    assert drawn.shape == image.shape
    light = drawn.mean(axis=-1)
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert row >= 20
    assert column >= 40
    assert light[-1, -1] > light[0, 0] + 30


def test_brightness_grows_with_the_value() -> None:
    image = np.full((1, 1, 3), 128, np.uint8)
    weights = np.array([0.299, 0.587, 0.114])
    light = [float(draw_heatmap(image, np.full((1, 1), v, np.float32))[0, 0] @ weights) for v in np.linspace(0, 1, 11)]
    assert light == sorted(light)
