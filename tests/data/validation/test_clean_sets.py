"""Unusual data sets without any problem give no error and no warning."""

from pathlib import Path

import pytest
from clean_sets import CHANGES, Change
from editable_dataset import EditableDataset

from mnsa.data.validation.validate import validate_dataset


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
def test_a_clean_data_set_has_no_findings(change: Change, own_dataset: Path) -> None:
    dataset = EditableDataset(own_dataset)
    change(dataset)
    dataset.save_table()
    report = validate_dataset(own_dataset)
    assert report.findings == ()
    assert report.exit_code == 0
    assert report.summary is not None
    assert report.summary["images"] == len(dataset.rows)


def test_there_are_at_least_twenty_clean_data_sets() -> None:
    assert len(CHANGES) >= 20
