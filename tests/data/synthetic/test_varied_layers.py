"""Leaves of the kind `varied` in an image: their size, their finer veins, and masks where the veins are drawn."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mnsa.data.synthetic.major_veins import Vein
from mnsa.data.synthetic.varied_layers import (
    PlacedLeaf,
    bend_walls,
    draw_net,
    place_leaves,
    rasterize,
)
from mnsa.data.synthetic.varied_shape import Blade
from varied_species import a_species, rng


def test_a_leaf_is_as_large_as_its_view_says() -> None:
    species = a_species()
    for view, low, high in (("whole", 0.55, 1.1), ("closeup", 1.25, 2.7)):
        placed = place_leaves(species, view, 100, rng(4))
        corners = np.concatenate([polygon for each in placed for polygon in each.blade.polygons])
        extent = (corners.max(axis=0) - corners.min(axis=0)).max() / 100.0
        assert low < extent < high
    patch = rasterize(place_leaves(a_species(aspect=0.8), "patch", 96, rng(5)), species, 96, rng(6))
    assert patch.blade.mean() > 0.9


def test_masks_and_images_are_drawn_at_the_same_place() -> None:
    """The centers of a vein in mask, coverage and geometry are the same, to a fifth of a pixel."""
    corners = np.array([[0.0, 0.0], [64.0, 0.0], [64.0, 64.0], [0.0, 64.0]])
    columns, centers = np.arange(64) + 0.5, []
    for x in np.linspace(30.0, 31.0, 9):
        upright = Vein(np.stack([np.full(9, x), np.linspace(-9.0, 73.0, 9)], axis=1), np.full(9, 1.5), 2)
        outside = Vein(upright.points - 500.0, upright.radii, 1)
        species = a_species(areole_size=0.01, tertiary_spacing=0.01)
        layers = rasterize([PlacedLeaf(Blade([corners], outside, [upright]), 100.0)], species, 64, rng(1))
        coverage, mask = layers.veins[1][32], layers.orders[32] == 2
        assert (coverage * columns).sum() / coverage.sum() == pytest.approx(x, abs=0.2)
        assert columns[mask].mean() == pytest.approx(x, abs=0.51)
        assert 3 <= mask.sum() <= 4
        centers.append(float(columns[mask].mean() - x))
    assert np.mean(centers) == pytest.approx(0.0, abs=0.2)


def test_a_net_has_cells_of_the_asked_size_and_none_below_the_finest() -> None:
    walls = draw_net(np.zeros((0, 2, 2)), 12.0, 120, rng(7))
    inside = ((walls > 0) & (walls < 120)).all(axis=(1, 2))
    length = np.hypot(*(walls[inside, 1] - walls[inside, 0]).T).sum()
    # Regular hexagons a distance d apart have 2 / d of wall per area, each shared by two cells.
    assert length / 120**2 == pytest.approx(2.0 / 12.0, rel=0.2)
    assert draw_net(np.zeros((0, 2, 2)), 2.0, 120, rng(8)).shape == (0, 2, 2)


def test_bent_walls_keep_their_ends() -> None:
    walls = 50.0 * rng(9).random((20, 2, 2))
    bent = bend_walls(walls, rng(10))
    assert_array_equal(bent[:, 0], walls[:, 0])
    assert np.allclose(bent[:, -1], walls[:, 1])
    assert_array_equal(bend_walls(walls / 100.0, rng(11)), walls / 100.0)
