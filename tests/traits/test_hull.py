"""The convex hull is scikit-image's, pixel for pixel."""

import numpy as np
import pytest
from skimage.morphology import convex_hull_image

from mnsa.traits.hull import convex_hull


@pytest.mark.parametrize("pixels", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("seed", range(4))
def test_scattered_pixels(pixels, seed):
    mask = np.zeros((40, 55), dtype=bool)
    mask.flat[np.random.default_rng(seed).choice(mask.size, pixels, replace=False)] = True
    np.testing.assert_array_equal(convex_hull(mask), convex_hull_image(mask))


@pytest.mark.parametrize("degrees", [0, 30, 45, 90])
def test_lines_and_ellipses(draw, degrees):
    for mask in (draw.line(150, 1, degrees), draw.ellipse(150, 60, degrees), draw.grid(3, 40, 2, degrees)):
        np.testing.assert_array_equal(convex_hull(mask), convex_hull_image(mask))


def test_nothing_has_no_hull():
    assert not convex_hull(np.zeros((4, 5), dtype=bool)).any()
