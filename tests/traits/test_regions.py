"""Shapes of many regions at once agree with scikit-image, one by one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from scipy.special import ellipe
from skimage.measure import label as label_8_connected
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

from mnsa.traits import regions
from mnsa.traits.records import AreoleTraits
from mnsa.traits.regions import convex_hull, measure_areoles, measure_leaf


@pytest.fixture(scope="module")
def labeled() -> tuple[Any, Any, Any]:
    labels, count = label(gaussian_filter(np.random.default_rng(4).standard_normal((90, 120)), 2.5) > 0.02)
    return labels, count, regionprops(labels)


def test_areas_equal_those_of_scikit_image(labeled: Any) -> None:
    labels, count, expected = labeled
    assert regions.areas(labels, count).tolist() == [region.area for region in expected]


def test_perimeters_are_within_the_stated_error(draw: SimpleNamespace) -> None:
    shapes = [draw.line(100, 40, degrees) for degrees in range(0, 91, 5)]
    found = [regions.perimeters(shape.astype(np.int32), 1)[0] for shape in shapes]
    np.testing.assert_allclose(found, 2 * (100 + 40), rtol=0.03)
    assert regions.perimeters(draw.disk(30).astype(np.int32), 1)[0] == pytest.approx(2 * np.pi * 30, rel=0.01)
    ring = draw.ring(60, 10).astype(np.int32)
    assert regions.perimeters(ring, 1)[0] == pytest.approx(2 * np.pi * (65 + 55), rel=0.01)  # the hole's, too


def test_a_perimeter_does_not_depend_on_other_regions(labeled: Any) -> None:
    labels, count, expected = labeled
    alone = [regions.perimeters((labels == region.label).astype(np.int32), 1)[0] for region in expected]
    np.testing.assert_allclose(regions.perimeters(labels, count), alone)


def test_elongations_equal_those_of_scikit_image(labeled: Any) -> None:
    labels, count, expected = labeled
    large = [region for region in expected if region.area > 100]
    ratios = [region.axis_major_length / region.axis_minor_length for region in large]
    found = regions.elongations(labels, count)[[region.label - 1 for region in large]]
    np.testing.assert_allclose(found, ratios, rtol=0.02)  # scikit-image's pixels are points, ours are squares


def test_no_regions_give_empty_arrays() -> None:
    nothing = np.zeros((5, 6), dtype=np.int32)
    for measure in (regions.areas, regions.perimeters, regions.elongations):
        assert measure(nothing, 0).shape == (0,)


@pytest.mark.parametrize("pixels", [1, 2, 3, 10, 60])
@pytest.mark.parametrize("seed", range(4))
def test_the_hull_of_scattered_pixels_equals_that_of_scikit_image(pixels: int, seed: int) -> None:
    mask = np.zeros((40, 55), dtype=bool)
    mask.flat[np.random.default_rng(seed).choice(mask.size, pixels, replace=False)] = True
    np.testing.assert_array_equal(convex_hull(mask), convex_hull_image(mask))


@pytest.mark.parametrize("degrees", [0, 30, 45, 90])
def test_the_hull_of_lines_and_ellipses_equals_that_of_scikit_image(draw: SimpleNamespace, degrees: int) -> None:
    for mask in (draw.line(150, 1, degrees), draw.ellipse(150, 60, degrees), draw.grid(3, 40, 2, degrees)):
        np.testing.assert_array_equal(convex_hull(mask), convex_hull_image(mask))


def test_an_empty_mask_has_an_empty_hull() -> None:
    assert not convex_hull(np.zeros((4, 5), dtype=bool)).any()


DEGREES = range(0, 91, 5)


@pytest.mark.parametrize("degrees", DEGREES)
def test_a_rectangle_has_the_expected_shape(draw: SimpleNamespace, degrees: int) -> None:
    traits = measure_leaf(draw.line(160, 70, degrees))
    assert traits.area_px2 == pytest.approx(160 * 70, rel=0.02)
    assert traits.perimeter_px == pytest.approx(2 * (160 + 70), rel=0.03)
    assert traits.length_px == pytest.approx(160, abs=1.5)
    assert traits.width_px == pytest.approx(70, abs=1.5)
    assert traits.solidity == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("degrees", DEGREES)
def test_an_ellipse_has_the_expected_shape(draw: SimpleNamespace, degrees: int) -> None:
    traits = measure_leaf(draw.ellipse(180, 80, degrees))
    perimeter = 2 * 180 * ellipe(1 - (80 / 180) ** 2)
    assert traits.area_px2 == pytest.approx(np.pi * 90 * 40, rel=0.01)
    assert traits.perimeter_px == pytest.approx(perimeter, rel=0.01)
    assert traits.length_px == pytest.approx(180, abs=1.5)
    assert traits.width_px == pytest.approx(80, abs=1.5)
    assert traits.circularity == pytest.approx(4 * np.pi * np.pi * 90 * 40 / perimeter**2, rel=0.02)
    assert traits.solidity == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("radius", [10, 40, 100])
def test_a_disk_has_the_expected_shape(draw: SimpleNamespace, radius: int) -> None:
    traits = measure_leaf(draw.disk(radius))
    assert traits.area_px2 == pytest.approx(np.pi * radius**2, rel=0.02)
    assert traits.perimeter_px == pytest.approx(2 * np.pi * radius, rel=0.02)
    assert (traits.length_px, traits.width_px) == pytest.approx((2 * radius, 2 * radius), abs=1.5)
    assert traits.circularity == pytest.approx(1, abs=0.02)
    assert traits.solidity == pytest.approx(1, abs=0.03)


def test_a_hole_lowers_the_solidity(draw: SimpleNamespace) -> None:
    traits = measure_leaf(draw.ring(80, 20))
    assert traits.perimeter_px == pytest.approx(2 * np.pi * 90, rel=0.02)  # the outer contour
    assert traits.solidity == pytest.approx(1 - (70 / 90) ** 2, rel=0.03)


def test_solidity_equals_that_of_scikit_image(draw: SimpleNamespace) -> None:
    lobed = draw.line(160, 30, 20) | draw.line(160, 30, 100)
    assert measure_leaf(lobed).solidity == pytest.approx(regionprops(label_8_connected(lobed))[0].solidity, rel=0.01)


def test_the_area_is_of_all_pieces_and_the_shape_of_the_largest(draw: SimpleNamespace) -> None:
    leaf = draw.ellipse(120, 60, 30)
    both, alone = leaf.copy(), measure_leaf(leaf)
    both[:20, :20] = both[238, 238] = True
    traits = measure_leaf(both)
    assert traits.area_px2 == alone.area_px2 + 401
    assert (traits.perimeter_px, traits.length_px, traits.solidity) == (
        alone.perimeter_px, alone.length_px, alone.solidity,
    )  # fmt: skip
    assert traits.piece_count == 2  # the lone pixel is a speck


def test_a_leaf_that_fills_the_image_or_is_one_pixel_has_a_shape() -> None:
    whole = measure_leaf(np.ones((30, 50), dtype=bool))
    assert (whole.length_px, whole.width_px, whole.solidity) == (50, 30, 1)
    dot = np.zeros((5, 5), dtype=bool)
    dot[2, 2] = True
    assert measure_leaf(dot).area_px2 == 1


def test_an_empty_leaf_mask_has_no_shape() -> None:
    traits = measure_leaf(np.zeros((5, 5), dtype=bool))
    assert (traits.area_px2, traits.piece_count) == (0, 0)
    assert np.isnan([traits.perimeter_px, traits.length_px, traits.width_px, traits.circularity, traits.solidity]).all()


def measured(veins: Any, reference_area: Any = None) -> AreoleTraits:
    return measure_areoles(veins, np.ones_like(veins) if reference_area is None else reference_area)


@pytest.mark.parametrize("width", [1, 2, 6.4])
@pytest.mark.parametrize("degrees", range(0, 91, 10))
def test_each_mesh_of_a_grid_is_an_areole(draw: SimpleNamespace, degrees: int, width: float) -> None:
    traits = measured(draw.grid(4, 40, width, degrees))
    assert (traits.count, traits.border_count) == (9, 1)
    assert traits.area_px2.mean == pytest.approx((40 - width) ** 2, rel=0.04)
    assert traits.circularity == pytest.approx(np.pi / 4, rel=0.07)
    assert traits.elongation == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("width", [1, 4])
def test_a_ring_has_one_round_areole(draw: SimpleNamespace, width: int) -> None:
    traits = measured(draw.ring(50, width))
    assert (traits.count, traits.border_count) == (1, 1)
    assert traits.area_px2.p50 == pytest.approx(np.pi * (50 - width / 2) ** 2, rel=0.01)
    assert traits.circularity == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("shape", ["line", "disk"])
def test_lines_and_disks_have_no_areoles(draw: SimpleNamespace, shape: str) -> None:
    veins = draw.line(150, 3, 20) if shape == "line" else draw.disk(30)
    traits = measured(veins)
    assert (traits.count, traits.border_count) == (0, 1)
    assert np.isnan([*traits.area_px2, traits.circularity, traits.elongation]).all()


def test_regions_at_the_margin_or_the_border_are_only_counted(draw: SimpleNamespace) -> None:
    veins = draw.grid(4, 40, 2, 0)
    assert measured(veins, draw.disk(58)).count == 1  # the middle mesh; the disk cuts the eight around it
    assert measured(veins, draw.disk(58)).border_count == 8
    middle = veins[90:150, 90:150]  # the image cuts all meshes but the middle one
    assert (measured(middle).count, measured(middle).border_count) == (1, 8)


def test_veins_that_touch_at_a_corner_enclose_an_areole() -> None:
    veins = np.zeros((9, 9), dtype=bool)
    veins[[1, 2, 3, 4, 5, 6, 7, 4, 3, 2, 5, 6], [4, 3, 2, 1, 2, 3, 4, 7, 6, 5, 6, 5]] = True  # a diamond
    assert measured(veins).count == 1
