"""Shapes of many regions at once agree with scikit-image, one by one."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from skimage.measure import regionprops

from mnsa.traits import regions


@pytest.fixture(scope="module")
def labelled():
    labels, count = label(gaussian_filter(np.random.default_rng(4).standard_normal((90, 120)), 2.5) > 0.02)
    return labels, count, regionprops(labels)


def test_areas(labelled):
    labels, count, expected = labelled
    assert regions.areas(labels, count).tolist() == [region.area for region in expected]


def test_perimeters(draw):
    shapes = [draw.line(100, 40, degrees) for degrees in range(0, 91, 5)]
    found = [regions.perimeters(shape.astype(np.int32), 1)[0] for shape in shapes]
    np.testing.assert_allclose(found, 2 * (100 + 40), rtol=0.03)
    assert regions.perimeters(draw.disk(30).astype(np.int32), 1)[0] == pytest.approx(2 * np.pi * 30, rel=0.01)
    ring = draw.ring(60, 10).astype(np.int32)
    assert regions.perimeters(ring, 1)[0] == pytest.approx(2 * np.pi * (65 + 55), rel=0.01)  # the hole's, too


def test_each_perimeter_is_that_of_the_region_alone(labelled):
    labels, count, expected = labelled
    alone = [regions.perimeters(np.int32(labels == region.label), 1)[0] for region in expected]
    np.testing.assert_allclose(regions.perimeters(labels, count), alone)


def test_elongations(labelled):
    labels, count, expected = labelled
    large = [region for region in expected if region.area > 100]
    ratios = [region.axis_major_length / region.axis_minor_length for region in large]
    found = regions.elongations(labels, count)[[region.label - 1 for region in large]]
    np.testing.assert_allclose(found, ratios, rtol=0.02)  # scikit-image's pixels are points, ours are squares


def test_no_region_has_no_shape():
    nothing = np.zeros((5, 6), dtype=np.int32)
    for measure in (regions.areas, regions.perimeters, regions.elongations):
        assert measure(nothing, 0).shape == (0,)
