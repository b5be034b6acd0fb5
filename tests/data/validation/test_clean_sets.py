"""Data sets that are unusual and sound: not one fault, not one warning."""

from collections.abc import Callable

import pytest
from clean_sets import RECIPES
from leaf_files import LeafFiles

from mnsa.data.check import check_dataset


@pytest.mark.parametrize("change", RECIPES, ids=lambda change: change.__name__)
def test_a_sound_data_set_is_left_in_peace(change: Callable[[LeafFiles], None], own_dataset) -> None:
    leaves = LeafFiles(own_dataset)
    change(leaves)
    leaves.save()
    findings = check_dataset(own_dataset)
    assert findings.faults == ()
    assert findings.exit_code == 0
    assert findings.summary["images"] == len(leaves.rows)


def test_there_are_twenty_of_them() -> None:
    assert len(RECIPES) >= 20
