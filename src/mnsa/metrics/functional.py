"""Metrics as formulas of pixel and image counts, so that no value depends on batch size or order.

NumPy arrays, no torch. N images; K classes; M mask classes; H, W mask size in pixels. Mask counts are (..., M, 3): true
positives, predicted pixels, true pixels. A score without anything to score is NaN.
"""

from dataclasses import dataclass

import numpy as np

from mnsa.metrics.calibration import expected_calibration_error, reliability_bins
from mnsa.structures import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class ClassResults:
    """Results of N labeled images.

    labels, predicted: class indices (N,). confidence: probability of the predicted class (N,). rank: number of classes
    that are more probable than the true one (N,); 0: the prediction is correct. n_classes: K.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    rank: np.ndarray
    n_classes: int

    @classmethod
    def from_probs(cls, probs: np.ndarray, labels: np.ndarray) -> "ClassResults":
        """Reduce probabilities (N, K) to what the metrics need.

        Of equal probabilities the first class counts as larger.
        """
        true = probs[np.arange(len(labels)), labels][:, None]
        before = np.arange(probs.shape[1]) < labels[:, None]
        rank = ((probs > true) | ((probs == true) & before)).sum(1)
        return cls(labels, probs.argmax(1), probs.max(1).astype(np.float64), rank, probs.shape[1])

    @property
    def correct(self) -> np.ndarray:
        """Whether the predicted class is the true one: bool (N,)."""
        correct: np.ndarray = np.equal(self.labels, self.predicted)
        return correct

    def take(self, images: np.ndarray) -> "ClassResults":
        """The results of some images, by their indices; an image may occur several times."""
        return ClassResults(
            self.labels[images], self.predicted[images], self.confidence[images], self.rank[images], self.n_classes
        )


def confusion_matrix(results: ClassResults) -> np.ndarray:
    """Count images per true class (row) and predicted class (column): int64 (K, K)."""
    classes = results.n_classes
    cells = results.labels * classes + results.predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def accuracy(results: ClassResults) -> float:
    """Fraction of images whose predicted class is the true one."""
    return float(results.correct.mean())


def balanced_accuracy(results: ClassResults) -> float:
    """Mean recall over the classes that occur."""
    correct, images, _ = _class_counts(results)
    return nanmean(_divide(correct, images))


def macro_f1(results: ClassResults) -> float:
    """Mean F1 over the classes that occur or are predicted."""
    correct, images, predicted = _class_counts(results)
    return nanmean(_divide(2 * correct, images + predicted))


def top5_accuracy(results: ClassResults) -> float:
    """Fraction of images whose true class is among the five most probable classes."""
    return float((results.rank < 5).mean())


def calibration_error(results: ClassResults) -> float:
    """Expected calibration error of the confidence; see `mnsa.metrics.calibration`."""
    return expected_calibration_error(reliability_bins(results.confidence, results.correct))


def mask_counts(predicted: np.ndarray, truth: np.ndarray, mask_classes: int) -> np.ndarray:
    """Count pixels per image and mask class: (..., H, W) -> int64 (..., M, 3).

    predicted, truth: class indices; pixels whose truth is IGNORE_INDEX are left out. With one mask class, index 1 is
    that class; with several, index m is class m.
    """
    known = truth != IGNORE_INDEX
    per_class = []
    for index in [1] if mask_classes == 1 else range(mask_classes):
        is_predicted, is_true = (predicted == index) & known, truth == index
        counts = [np.count_nonzero(pixels, axis=(-2, -1)) for pixels in (is_predicted & is_true, is_predicted, is_true)]
        per_class.append(np.stack(counts, axis=-1))
    return np.stack(per_class, axis=-2).astype(np.int64)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of mask counts: (..., 3) -> float64 (...)."""
    both, predicted, true = np.moveaxis(counts, -1, 0)
    return _divide(both, predicted + true - both)


def dice(counts: np.ndarray) -> np.ndarray:
    """Dice coefficient of mask counts: (..., 3) -> float64 (...)."""
    both, predicted, true = np.moveaxis(counts, -1, 0)
    return _divide(2 * both, predicted + true)


def pooled_iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of the pixels of all images together: (N, ..., 3) -> float64 (...).

    NaN for a class that no truth has: a score of 0 would count as an error in each mean.
    """
    return np.where(occurs(counts), iou(counts.sum(0)), np.nan)


def pooled_dice(counts: np.ndarray) -> np.ndarray:
    """Dice coefficient of the pixels of all images together: (N, ..., 3) -> float64 (...); NaN as for `pooled_iou`."""
    return np.where(occurs(counts), dice(counts.sum(0)), np.nan)


def mean_image_iou(counts: np.ndarray) -> float:
    """Mean IoU over the images (N, 3) where prediction or truth has a pixel; NaN if no truth has one."""
    return nanmean(iou(counts)) if occurs(counts) else float("nan")


def mean_image_dice(counts: np.ndarray) -> float:
    """Mean Dice coefficient over the images (N, 3) where prediction or truth has a pixel; NaN if no truth has one."""
    return nanmean(dice(counts)) if occurs(counts) else float("nan")


def occurs(counts: np.ndarray) -> np.ndarray:
    """Whether the truth of any image has a pixel of a class: (N, ..., 3) -> bool (...)."""
    return np.asarray(counts[..., 2].sum(0) > 0)


def images_empty(counts: np.ndarray) -> float:
    """Number of images (N, 3) in which neither prediction nor truth has a pixel."""
    return float((counts[:, 1:].sum(1) == 0).sum())


def foreground_mean(values: np.ndarray) -> float:
    """Mean over the mask classes (M,) that have a value, without the background: with M > 1 it is the first class."""
    return nanmean(values if len(values) == 1 else values[1:])


def nanmean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN when there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _class_counts(results: ClassResults) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class: images predicted correctly, images, images predicted as it; (K,) each."""
    where = (results.labels[results.correct], results.labels, results.predicted)
    correct, images, predicted = (np.bincount(classes, minlength=results.n_classes) for classes in where)
    return correct, images, predicted


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Quotients in float64; NaN where `whole` is 0."""
    quotients: np.ndarray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.greater(whole, 0))
    return quotients
