"""Calibration of class probabilities: temperature scaling, expected calibration error, and the confidence threshold.

N labeled images; K classes. Confidence: the probability of the most probable class, (N,). NumPy arrays, no torch.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

N_BINS = 15  # of confidence, equally wide

THRESHOLD_STEP = 1e-4  # thresholds are multiples of it: the table of predictions has as many digits

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0  # bounds of the fit


class ReliabilityBin(NamedTuple):
    """One bar of a reliability diagram: images whose confidence is in [low, high); None where there is none."""

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


class Threshold(NamedTuple):
    """A confidence. accepted: images with at least this confidence; correct: those of them predicted correctly."""

    value: float
    accepted: int
    correct: int


def log_loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of labels (N,) under softmax(logits / temperature), logits (N, K); in nats."""
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Fit the temperature with the lowest log-loss to logits (N, K) and labels (N,).

    The loss is convex in 1/T, so it has one minimum in log T, too. When every prediction is correct, it falls as T goes
    to 0 and has no minimum. Returns: T between MIN_TEMPERATURE and MAX_TEMPERATURE; None when every prediction is
    correct.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.
    """
    if (logits.argmax(1) == labels).all():
        return None
    logits = logits.astype(np.float64)
    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    minimum = minimize_scalar(
        lambda log_t: log_loss(logits, labels, np.exp(log_t)), bounds=bounds, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(minimum.x))


def confidences(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The confidence of each image, the largest of softmax(logits / temperature): float64 (N,)."""
    best: np.ndarray = np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1).max(1))
    return best


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = N_BINS) -> list[ReliabilityBin]:
    """Mean confidence and accuracy in equally wide bins of confidence; a confidence of 1 is in the last bin.

    confidence: float (N,). correct: bool (N,), whether the most probable class is the true one.
    """
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    confidence_sums, correct_sums = (
        np.bincount(index, weights=values, minlength=bins) for values in (confidence, correct)
    )
    return [
        ReliabilityBin(
            float(edges[n]),
            float(edges[n + 1]),
            int(counts[n]),
            *_means(counts[n], confidence_sums[n], correct_sums[n]),
        )
        for n in range(bins)
    ]


def expected_calibration_error(bars: list[ReliabilityBin]) -> float:
    """Expected calibration error: the mean difference of confidence and accuracy, bins weighted by their images."""
    images = sum(bar.images for bar in bars)
    gaps = [
        bar.images * abs(bar.confidence - bar.accuracy)
        for bar in bars
        if bar.confidence is not None and bar.accuracy is not None
    ]
    return sum(gaps) / images


def find_threshold(confidence: np.ndarray, correct: np.ndarray, target: float) -> Threshold | None:
    """Find the lowest threshold above which the accuracy is at least `target`.

    confidence: float (N,). correct: bool (N,). Candidates are the confidences, rounded down to THRESHOLD_STEP.
    Returns: None when no threshold reaches the target.
    """
    floored = np.floor(confidence / THRESHOLD_STEP + 1e-6).astype(int)  # 0.3 / 0.0001 is just below 3000
    for value in np.unique(floored):
        accepted = floored >= value
        if correct[accepted].mean() >= target:
            return Threshold(round(float(value * THRESHOLD_STEP), 4), int(accepted.sum()), int(correct[accepted].sum()))
    return None


def _means(count: int, confidence: float, correct: float) -> tuple[float | None, float | None]:
    return (float(confidence / count), float(correct / count)) if count else (None, None)
