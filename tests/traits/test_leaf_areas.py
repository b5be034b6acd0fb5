"""Leaves whose traits are known in closed form, at any rotation, and scikit-image's word for the rest."""

import numpy as np
import pytest
from scipy.special import ellipe
from skimage.measure import label, regionprops

from mnsa.traits.leaf import measure_leaf

DEGREES = range(0, 91, 5)


@pytest.mark.parametrize("degrees", DEGREES)
def test_a_rectangle(draw, degrees):
    traits = measure_leaf(draw.line(160, 70, degrees))
    assert traits.area_px2 == pytest.approx(160 * 70, rel=0.02)
    assert traits.perimeter_px == pytest.approx(2 * (160 + 70), rel=0.03)
    assert traits.length_px == pytest.approx(160, abs=1.5)
    assert traits.width_px == pytest.approx(70, abs=1.5)
    assert traits.solidity == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("degrees", DEGREES)
def test_an_ellipse(draw, degrees):
    traits = measure_leaf(draw.ellipse(180, 80, degrees))
    perimeter = 2 * 180 * ellipe(1 - (80 / 180) ** 2)
    assert traits.area_px2 == pytest.approx(np.pi * 90 * 40, rel=0.01)
    assert traits.perimeter_px == pytest.approx(perimeter, rel=0.01)
    assert traits.length_px == pytest.approx(180, abs=1.5)
    assert traits.width_px == pytest.approx(80, abs=1.5)
    assert traits.circularity == pytest.approx(4 * np.pi * np.pi * 90 * 40 / perimeter**2, rel=0.02)
    assert traits.solidity == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("radius", [10, 40, 100])
def test_a_disk(draw, radius):
    traits = measure_leaf(draw.disk(radius))
    assert traits.area_px2 == pytest.approx(np.pi * radius**2, rel=0.02)
    assert traits.perimeter_px == pytest.approx(2 * np.pi * radius, rel=0.02)
    assert (traits.length_px, traits.width_px) == pytest.approx((2 * radius, 2 * radius), abs=1.5)
    assert traits.circularity == pytest.approx(1, abs=0.02)
    assert traits.solidity == pytest.approx(1, abs=0.03)


def test_a_ring_is_no_full_leaf(draw):
    traits = measure_leaf(draw.ring(80, 20))
    assert traits.perimeter_px == pytest.approx(2 * np.pi * 90, rel=0.02)  # the outer contour
    assert traits.solidity == pytest.approx(1 - (70 / 90) ** 2, rel=0.03)


def test_solidity_is_scikit_images(draw):
    lobed = draw.line(160, 30, 20) | draw.line(160, 30, 100)
    assert measure_leaf(lobed).solidity == pytest.approx(regionprops(label(lobed))[0].solidity, rel=0.01)


def test_the_shape_is_the_largest_pieces_and_the_area_that_of_all(draw):
    leaf = draw.ellipse(120, 60, 30)
    both, alone = leaf.copy(), measure_leaf(leaf)
    both[:20, :20] = both[238, 238] = True
    traits = measure_leaf(both)
    assert traits.area_px2 == alone.area_px2 + 401
    assert (traits.perimeter_px, traits.length_px, traits.solidity) == (
        alone.perimeter_px, alone.length_px, alone.solidity,
    )  # fmt: skip
    assert traits.piece_count == 2  # the lone pixel is a speck


def test_a_leaf_that_fills_the_image_or_is_one_pixel_has_a_shape():
    whole = measure_leaf(np.ones((30, 50), dtype=bool))
    assert (whole.length_px, whole.width_px, whole.solidity) == (50, 30, 1)
    dot = np.zeros((5, 5), dtype=bool)
    dot[2, 2] = True
    assert measure_leaf(dot).area_px2 == 1


def test_no_leaf_has_no_shape():
    traits = measure_leaf(np.zeros((5, 5), dtype=bool))
    assert (traits.area_px2, traits.piece_count) == (0, 0)
    assert np.isnan([traits.perimeter_px, traits.length_px, traits.width_px, traits.circularity, traits.solidity]).all()
