"""Data sets that are unusual and sound: not one finding, not one warning."""

from collections.abc import Callable

import pytest
from clean_sets import RECIPES
from leaf_files import LeafFiles

from mnsa.data.validation.validate import validate_dataset


@pytest.mark.parametrize("change", RECIPES, ids=lambda change: change.__name__)
def test_a_sound_data_set_is_left_in_peace(change: Callable[[LeafFiles], None], own_dataset) -> None:
    leaves = LeafFiles(own_dataset)
    change(leaves)
    leaves.save()
    report = validate_dataset(own_dataset)
    assert report.findings == ()
    assert report.exit_code == 0
    assert report.summary["images"] == len(leaves.rows)


def test_there_are_twenty_of_them() -> None:
    assert len(RECIPES) >= 20
