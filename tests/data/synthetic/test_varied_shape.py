"""Blades of the kind `varied`: outlines and veins of order 1 to 3."""

import numpy as np
import pytest

from mnsa.data.synthetic.varied_shape import OUTLINES, draw_blade, ribbon, sample_species
from varied_species import rng


@pytest.mark.parametrize("outline", OUTLINES)
def test_a_blade_of_every_outline_has_veins_of_order_1_and_2(outline: str) -> None:
    seeds = (seed for seed in range(500) if sample_species(rng(seed)).outline == outline)
    species = sample_species(rng(next(seeds)))
    blade = draw_blade(species, rng(2))
    assert {1, 2} <= {vein.order for vein in blade.veins}
    points = np.concatenate([vein.points for vein in blade.veins])
    assert np.isfinite(points).all()
    assert np.abs(points).max() < 1.6  # of a length of 1


def test_a_ribbon_is_twice_as_wide_as_its_radii() -> None:
    around = ribbon(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), np.array([0.1, 0.2, 0.3]))
    assert np.allclose(np.abs(around[:, 1]), [0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
