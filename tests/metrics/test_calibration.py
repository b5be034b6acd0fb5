"""Temperature, calibration error and threshold are those of scipy, torch, torchmetrics, and of counts by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from torchmetrics.classification import MulticlassCalibrationError

from mnsa.metrics import calibration
from narrowing import some


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 4) that are overconfident by a factor of 2.5, with labels drawn from the true probabilities."""
    rng = np.random.default_rng(3)
    true = rng.normal(0, 1.5, (4000, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(true, axis=1)])
    return true * 2.5, labels


def test_the_temperature_corrects_overconfident_logits(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    assert calibration.fit_temperature(*drawn) == pytest.approx(2.5, rel=0.05)


def test_the_temperature_is_where_the_slope_of_the_log_loss_is_zero(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn

    def slope(inverse: Any) -> Any:
        mean = (softmax(logits * inverse, axis=1) * logits).sum(1)
        return float((mean - logits[np.arange(len(labels)), labels]).mean())

    assert calibration.fit_temperature(logits, labels) == pytest.approx(1 / brentq(slope, 0.05, 20), rel=1e-4)


def test_the_log_loss_is_torchs_cross_entropy(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = map(torch.from_numpy, drawn)
    expected = torch.nn.functional.cross_entropy(logits / 1.7, labels).item()
    assert calibration.log_loss(*drawn, 1.7) == pytest.approx(expected)


def test_images_that_are_all_correct_have_no_temperature() -> None:
    assert calibration.fit_temperature(np.array([[2.0, 1.0], [0.0, 0.1]]), np.array([0, 1])) is None


def test_wrong_predictions_get_the_highest_temperature() -> None:
    logits = np.array([[4.0, 0.0], [4.0, 0.0]])
    assert calibration.fit_temperature(logits, np.array([1, 1])) == pytest.approx(calibration.MAX_TEMPERATURE, rel=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_torchmetrics(
    drawn: tuple[np.ndarray, np.ndarray], temperature: Any, bins: Any
) -> None:
    logits, labels = drawn
    theirs = MulticlassCalibrationError(4, n_bins=bins, norm="l1")
    expected = theirs(torch.from_numpy(softmax(logits / temperature, axis=1)), torch.from_numpy(labels)).item()
    bars = calibration.reliability_bins(calibration.confidences(logits, temperature), logits.argmax(1) == labels, bins)
    assert calibration.expected_calibration_error(bars) == pytest.approx(expected, abs=1e-6)
    assert sum(bar.images for bar in bars) == len(labels)


def test_bins_contain_their_lower_edge_and_the_last_one_contains_1() -> None:
    bars = calibration.reliability_bins(np.array([0.5, 0.6, 0.75, 1.0]), np.array([True, False, True, True]), 4)
    assert [bar.images for bar in bars] == [0, 0, 2, 2]
    assert bars[0] == (0.0, 0.25, 0, None, None)
    assert bars[2]._replace(confidence=None) == (0.5, 0.75, 2, None, 0.5)
    assert bars[3]._replace(confidence=None) == (0.75, 1.0, 2, None, 1.0)
    assert [bar.confidence for bar in bars[2:]] == pytest.approx([0.55, 0.875])
    assert calibration.expected_calibration_error(bars) == pytest.approx((0.05 + 0.125) / 2)


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.6, (0.3, 5, 3)), (0.75, (0.4, 4, 3)), (1.0, (0.6, 3, 3)), (0.0, (0.3, 5, 3))],
)
def test_the_threshold_is_the_lowest_that_reaches_the_target(target: Any, expected: Any) -> None:
    confidence, correct = np.array([0.9, 0.3, 0.6, 0.8, 0.4]), np.array([True, False, True, True, False])
    assert calibration.find_threshold(confidence, correct, target) == pytest.approx(expected)


def test_a_threshold_is_rounded_down_so_that_its_image_reaches_it() -> None:
    found = some(calibration.find_threshold(np.array([0.123456, 0.12341]), np.array([True, True]), 1.0))
    assert found.value == pytest.approx(0.1234)
    assert (found.accepted, found.correct) == (2, 2)


def test_there_is_no_threshold_when_the_most_confident_predictions_are_wrong() -> None:
    assert calibration.find_threshold(np.array([0.9, 0.5]), np.array([False, True]), 0.95) is None
