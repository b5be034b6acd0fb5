"""Vessels of the eye, thin and branched as veins, drawn by two observers (CHASE_DB1); skipped without the images."""

from pathlib import Path

import numpy as np
import pytest

from mnsa.data.decode import read_mask
from mnsa.traits import Roles, TraitMeasurer
from mnsa.traits.records import VeinTraits
from narrowing import some

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "chase_db1"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (FOLDER / "masks").is_dir(), reason=f"CHASE_DB1 is not at {FOLDER}"),
]


@pytest.fixture(scope="module")
def observers() -> list[list[VeinTraits]]:
    """The vein traits of both observers' masks, image by image."""
    measurer = TraitMeasurer(Roles(vein=(1,), leaf=(), lesion=()), reference_area="image")
    names = sorted(path.name for path in (FOLDER / "masks").iterdir())[::4]
    return [
        [some(measurer.measure(read_mask(FOLDER / folder / name, 1).numpy()).vein) for name in names]
        for folder in ("masks", "masks_2nd")
    ]


def test_length_times_width_is_the_area_of_the_vessels(observers: list[list[VeinTraits]]) -> None:
    for traits in (*observers[0], *observers[1]):
        area = traits.area_fraction * traits.reference_area_px2
        assert traits.length_px * traits.width_px.mean == pytest.approx(area, rel=0.05)


def test_traits_of_both_observers_are_similar(observers: list[list[VeinTraits]]) -> None:
    lengths = np.array([[traits.length_px for traits in one] for one in observers])
    np.testing.assert_allclose(lengths[1].mean(), lengths[0].mean(), rtol=0.2)
    for traits in (*observers[0], *observers[1]):
        assert 20 < traits.branch_count < 150
        assert 20 < traits.free_ending_count < 150
        assert 1 <= traits.tortuosity.p50 < 1.2
