"""Areoles: as many, as large and as round as drawn; those at the border left out and counted."""

import numpy as np
import pytest

from mnsa.traits.areoles import measure_areoles


def measured(veins, ground=None):
    return measure_areoles(veins, np.ones_like(veins) if ground is None else ground)


@pytest.mark.parametrize("width", [1, 2, 6.4])
@pytest.mark.parametrize("degrees", range(0, 91, 10))
def test_a_grid_has_as_many_areoles_as_meshes(draw, degrees, width):
    traits = measured(draw.grid(4, 40, width, degrees))
    assert (traits.count, traits.border_count) == (9, 1)
    assert traits.area_px2.mean == pytest.approx((40 - width) ** 2, rel=0.04)
    assert traits.circularity == pytest.approx(np.pi / 4, rel=0.07)
    assert traits.elongation == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("width", [1, 4])
def test_a_ring_has_one_round_areole(draw, width):
    traits = measured(draw.ring(50, width))
    assert (traits.count, traits.border_count) == (1, 1)
    assert traits.area_px2.p50 == pytest.approx(np.pi * (50 - width / 2) ** 2, rel=0.01)
    assert traits.circularity == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("shape", ["line", "disk"])
def test_lines_and_disks_have_none(draw, shape):
    veins = draw.line(150, 3, 20) if shape == "line" else draw.disk(30)
    traits = measured(veins)
    assert (traits.count, traits.border_count) == (0, 1)
    assert np.isnan([*traits.area_px2, traits.circularity, traits.elongation]).all()


def test_regions_at_the_margin_or_the_images_border_are_only_counted(draw):
    veins = draw.grid(4, 40, 2, 0)
    assert measured(veins, draw.disk(58)).count == 1  # the middle mesh; the disk cuts the eight around it
    assert measured(veins, draw.disk(58)).border_count == 8
    middle = veins[90:150, 90:150]  # the image cuts all meshes but the middle one
    assert (measured(middle).count, measured(middle).border_count) == (1, 8)


def test_veins_that_touch_by_a_corner_close_an_areole():
    veins = np.zeros((9, 9), dtype=bool)
    veins[[1, 2, 3, 4, 5, 6, 7, 4, 3, 2, 5, 6], [4, 3, 2, 1, 2, 3, 4, 7, 6, 5, 6, 5]] = True  # a diamond
    assert measured(veins).count == 1
