"""Reliability diagrams and their captions show what the files contain."""

import json
from typing import Any

import numpy as np
import pytest

from mnsa.metrics.calibration import reliability_bins
from mnsa.metrics.scores import Evaluation
from mnsa.report.calibration_plots import plot_reliability, reliability_figures
from mnsa.report.run_page import render_run_page
from mnsa.report.run_record import read_run_record
from mnsa.run_folder import RunFolder


def test_a_reliability_diagram_has_the_bars_of_an_independent_count() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.2, 1, 400)
    correct = rng.random(400) < confidence
    axes: Any = plot_reliability(reliability_bins(confidence, correct), threshold=0.8).axes
    upper, lower = axes
    place = np.minimum((confidence * 15).astype(int), 14)
    bins = sorted(set(place.tolist()))
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([correct[place == n].mean() for n in bins])
    assert [bar.get_x() for bar in upper.patches] == pytest.approx([n / 15 for n in bins])
    assert [bar.get_height() for bar in lower.patches] == [np.sum(place == n) for n in bins]
    dots = next(line for line in upper.lines if line.get_label() == "mean confidence")
    assert list(dots.get_xdata()) == pytest.approx([confidence[place == n].mean() for n in bins])


def test_a_diagram_without_images_is_empty() -> None:
    assert not plot_reliability(reliability_bins(np.zeros(0), np.zeros(0, bool))).axes[0].patches


def test_captions_have_split_state_and_error(reported: RunFolder, evaluation: dict[str, Evaluation]) -> None:
    captions = [caption for _, caption in reliability_figures(read_run_record(reported))]
    calibration = json.loads((reported.path / "calibration.json").read_text())
    for split in ("test", "train"):
        error, images = evaluation[split].value("ece"), evaluation[split].sizes["classification"].images
        assert f"Split {split}, calibrated: calibration error {error:.3f}, {images} images." in captions
    before, after = (f"calibration error {calibration['ece'][when]:.3f}, 15 images." for when in ("before", "after"))
    assert [caption for caption in captions if caption.startswith("Split val")] == [
        f"Split val, before the temperature: {before}",
        f"Split val, after it, on the images it was fitted to: {after}",
    ]


def test_a_run_whose_validation_predictions_are_all_correct_has_temperature_1(own_reported: RunFolder) -> None:
    file = own_reported.path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fitted": False, "threshold": None, "temperature": 1.0}))
    text = render_run_page(read_run_record(own_reported))
    assert "Every prediction on split val is correct, so the temperature stays 1." in text
    assert "No threshold reaches the target accuracy of 95%." in text
