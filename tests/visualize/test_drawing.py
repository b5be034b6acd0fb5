"""Heatmaps: the largest value is the lightest, at its own place."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from mnsa.visualize.drawing import (
    draw_heatmap,
    draw_large_overlay,
    draw_mask_outlines,
    draw_overlay,
    normalize_by_max,
    normalize_min_max,
    write_overlay,
)
from mnsa.visualize.palette import class_color


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


GRAY = Image.new("RGB", (40, 20), (90, 90, 90))


def test_the_background_stays_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 3] = 1
    differs = (draw_overlay(image, mask) != image).any(-1)
    np.testing.assert_array_equal(differs, mask == 1)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, (0, 0, 0)), (0.5, (120, 114, 33)), (1.0, (240, 228, 66))])
def test_the_strength_is_the_weight_of_the_palettes_color(strength: float, expected: tuple[int, int, int]) -> None:
    black, mask = np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)
    drawn = draw_overlay(black, mask, strength=strength)
    assert tuple(drawn[0, 1]) == expected
    assert tuple(drawn[0, 0]) == (0, 0, 0)


def test_every_class_has_the_palettes_color_even_the_twentieth() -> None:
    mask = np.arange(1, 21, dtype=np.uint8)[None]
    (colors,) = draw_overlay(np.zeros((1, 20, 3), np.uint8), mask, strength=1.0)
    assert [tuple(color) for color in colors] == [class_color(index) for index in range(1, 21)]


def test_a_tall_overlay_drawn_in_strips_equals_the_overlay_drawn_at_once() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (700, 9, 3), np.uint8), rng.integers(0, 4, (700, 9), np.uint8)
    np.testing.assert_array_equal(np.array(draw_large_overlay(image, mask)), draw_overlay(image, mask))


def test_a_vein_of_one_pixel_keeps_its_color_in_the_file() -> None:
    leaf, mask = np.full((64, 64, 3), (60, 120, 40), np.uint8), np.zeros((64, 64), np.uint8)
    mask[:, 32] = 1
    file = io.BytesIO()
    write_overlay(leaf, mask, file)
    written = np.array(Image.open(file)).astype(int)
    assert np.abs(written - draw_overlay(leaf, mask)).max() < 12  # with colors at half the resolution: 37


@pytest.mark.parametrize(("given", "written"), [((16, 65_500), (16, 65_500)), ((32, 70_000), (30, 65_500))])
def test_an_overlay_that_is_too_large_for_a_jpeg_is_shrunk(given: tuple[int, int], written: tuple[int, int]) -> None:
    file = io.BytesIO()
    write_overlay(np.zeros((*given, 3), np.uint8), np.zeros(given, np.uint8), file)
    assert Image.open(file).size == written[::-1]


def where_drawn(pixels: np.ndarray, index: int) -> np.ndarray:
    found: np.ndarray = (pixels == class_color(index)).all(axis=-1)
    return found


def test_a_mask_is_outlined_and_not_filled() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 10:30] = 1
    expected = mask.astype(bool)
    expected[6:14, 11:29] = False
    assert np.array_equal(where_drawn(draw_mask_outlines(GRAY, mask, (40, 20)), 1), expected)


def test_every_class_has_its_own_color() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[2:8, 2:8], mask[10:18, 20:30] = 1, 2
    drawn = draw_mask_outlines(GRAY, mask, (40, 20))
    assert where_drawn(drawn, 1)[2:8, 2:8].any()
    assert where_drawn(drawn, 2)[10:18, 20:30].any()
    assert not where_drawn(drawn, 2)[:9].any()


def test_a_vein_of_one_pixel_stays_visible_when_the_image_is_shrunk_tenfold() -> None:
    mask = np.zeros((400, 800), np.uint8)
    mask[:, 333] = 1
    drawn = draw_mask_outlines(GRAY.resize((800, 400)), mask, (80, 40))
    assert drawn.shape == (40, 80, 3)
    assert where_drawn(drawn, 1)[:, 33].all()
    assert where_drawn(drawn, 1).sum() == 40


def test_a_small_image_is_enlarged_and_its_outline_stays_thin() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 10:30] = 1
    drawn = draw_mask_outlines(GRAY, mask, (400, 400))
    assert drawn.shape == (200, 400, 3)
    assert where_drawn(drawn, 1).sum() == 2 * (100 + 200) - 4
