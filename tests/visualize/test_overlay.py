"""An overlay tints what the mask marks and nothing else."""

import io

import numpy as np
import pytest
from PIL import Image

from mnsa.visualize.overlay import draw_large_overlay, draw_overlay, write_overlay


def test_the_background_is_left_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 3] = 1
    differs = (draw_overlay(image, mask) != image).any(-1)
    np.testing.assert_array_equal(differs, mask == 1)


def test_a_tint_of_full_strength_is_the_colour_itself_and_of_none_the_image():
    black, mask = np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)
    np.testing.assert_array_equal(draw_overlay(black, mask, strength=0.0), black)
    full = draw_overlay(black, mask, strength=1.0)
    np.testing.assert_allclose(draw_overlay(black, mask, strength=0.5)[0, 1], full[0, 1] / 2, atol=0.5)


def test_neighbouring_classes_have_different_colours_however_many_there_are():
    mask = np.arange(1, 21, dtype=np.uint8)[None]
    (colours,) = draw_overlay(np.zeros((1, 20, 3), np.uint8), mask, strength=1.0)
    assert (colours.sum(-1) > 0).all()
    assert (np.abs(np.diff(colours.astype(int), axis=0)).sum(-1) > 0).all()


def test_a_tall_picture_made_in_bands_is_the_overlay():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (700, 9, 3), np.uint8), rng.integers(0, 4, (700, 9), np.uint8)
    np.testing.assert_array_equal(np.array(draw_large_overlay(image, mask)), draw_overlay(image, mask))


def test_a_vein_of_one_pixel_keeps_its_colour_in_the_file():
    leaf, mask = np.full((64, 64, 3), (60, 120, 40), np.uint8), np.zeros((64, 64), np.uint8)
    mask[:, 32] = 1
    file = io.BytesIO()
    write_overlay(leaf, mask, file)
    written = np.array(Image.open(file)).astype(int)
    assert np.abs(written - draw_overlay(leaf, mask)).max() < 12  # with colours at half the resolution: 37


@pytest.mark.parametrize(("given", "written"), [((16, 65_500), (16, 65_500)), ((32, 70_000), (30, 65_500))])
def test_a_picture_that_no_jpeg_could_hold_is_shrunk(given, written):
    file = io.BytesIO()
    write_overlay(np.zeros((*given, 3), np.uint8), np.zeros(given, np.uint8), file)
    assert Image.open(file).size == written[::-1]
