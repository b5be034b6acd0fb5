"""Losses of lines need a loss of the whole mask beside them; weights are 0 or more."""

import pytest
from pydantic import ValidationError

from mnsa.config import LossConfig

TERMS = ["cldice", "skeleton_recall", "centerline"]


@pytest.mark.parametrize("term", TERMS)
def test_a_loss_of_lines_needs_true_centerlines_and_company(term: str) -> None:
    assert LossConfig.model_validate({term: 0.5}).needs_centerlines
    assert LossConfig.model_validate({term: 0.5, "segmentation": 0}).needs_centerlines  # Dice is left
    with pytest.raises(ValidationError, match=r"set loss\.segmentation or loss\.dice above 0"):
        LossConfig.model_validate({term: 0.5, "segmentation": 0, "dice": 0})


def test_without_losses_of_lines_no_centerlines_are_needed() -> None:
    assert not LossConfig().needs_centerlines
    assert not LossConfig(segmentation=0, dice=0).needs_centerlines


@pytest.mark.parametrize(
    "values", [{"dice": -0.1}, {"label_smoothing": 1}, {"own": {"focal": -1}}, {"class_weights": "inverse"}]
)
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LossConfig.model_validate(values)
