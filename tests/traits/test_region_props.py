"""Shapes of many regions at once agree with scikit-image, one by one."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

from mnsa.traits import region_props
from mnsa.traits.region_props import convex_hull


@pytest.fixture(scope="module")
def labeled():
    labels, count = label(gaussian_filter(np.random.default_rng(4).standard_normal((90, 120)), 2.5) > 0.02)
    return labels, count, regionprops(labels)


def test_areas_equal_those_of_scikit_image(labeled):
    labels, count, expected = labeled
    assert region_props.areas(labels, count).tolist() == [region.area for region in expected]


def test_perimeters_are_within_the_stated_error(draw):
    shapes = [draw.line(100, 40, degrees) for degrees in range(0, 91, 5)]
    found = [region_props.perimeters(shape.astype(np.int32), 1)[0] for shape in shapes]
    np.testing.assert_allclose(found, 2 * (100 + 40), rtol=0.03)
    assert region_props.perimeters(draw.disk(30).astype(np.int32), 1)[0] == pytest.approx(2 * np.pi * 30, rel=0.01)
    ring = draw.ring(60, 10).astype(np.int32)
    assert region_props.perimeters(ring, 1)[0] == pytest.approx(2 * np.pi * (65 + 55), rel=0.01)  # the hole's, too


def test_a_perimeter_does_not_depend_on_other_regions(labeled):
    labels, count, expected = labeled
    alone = [region_props.perimeters(np.int32(labels == region.label), 1)[0] for region in expected]
    np.testing.assert_allclose(region_props.perimeters(labels, count), alone)


def test_elongations_equal_those_of_scikit_image(labeled):
    labels, count, expected = labeled
    large = [region for region in expected if region.area > 100]
    ratios = [region.axis_major_length / region.axis_minor_length for region in large]
    found = region_props.elongations(labels, count)[[region.label - 1 for region in large]]
    np.testing.assert_allclose(found, ratios, rtol=0.02)  # scikit-image's pixels are points, ours are squares


def test_no_regions_give_empty_arrays():
    nothing = np.zeros((5, 6), dtype=np.int32)
    for measure in (region_props.areas, region_props.perimeters, region_props.elongations):
        assert measure(nothing, 0).shape == (0,)


@pytest.mark.parametrize("pixels", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("seed", range(4))
def test_the_hull_of_scattered_pixels_equals_that_of_scikit_image(pixels, seed):
    mask = np.zeros((40, 55), dtype=bool)
    mask.flat[np.random.default_rng(seed).choice(mask.size, pixels, replace=False)] = True
    np.testing.assert_array_equal(convex_hull(mask), convex_hull_image(mask))


@pytest.mark.parametrize("degrees", [0, 30, 45, 90])
def test_the_hull_of_lines_and_ellipses_equals_that_of_scikit_image(draw, degrees):
    for mask in (draw.line(150, 1, degrees), draw.ellipse(150, 60, degrees), draw.grid(3, 40, 2, degrees)):
        np.testing.assert_array_equal(convex_hull(mask), convex_hull_image(mask))


def test_an_empty_mask_has_an_empty_hull():
    assert not convex_hull(np.zeros((4, 5), dtype=bool)).any()
