"""Score predictions at the images' own size: class scores, IoU and Dice per mask class, and bootstrap intervals."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnsa.errors import DataError
from mnsa.metrics import functional
from mnsa.metrics.calibration import expected_calibration_error, reliability_bins
from mnsa.structures import NO_LABEL, Prediction, Sample


def bootstrap_interval(
    score: Callable[[np.ndarray], float], images: int, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The interval in which `score` falls when the images are drawn again, with replacement.

    score: takes image indices (N,), returns a number; NaN draws are left out. Returns: lower and upper bound,
    both NaN when no draw has a score. Source: B. Efron, "Bootstrap methods", Annals of Statistics 7 (1979).
    """
    rng = np.random.default_rng(seed)
    draws = np.array([score(rng.integers(0, images, images)) for _ in range(resamples)])
    draws = draws[~np.isnan(draws)]
    if draws.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


Scores = dict[str, Any]  # what evaluation.json holds: plain numbers, lists and names


def score_predictions(
    pairs: Iterable[tuple[Sample, Prediction]], classes: tuple[str, ...], mask_classes: tuple[str, ...], *,
    calibrated: bool = False,
) -> Scores:  # fmt: skip
    """Score each prediction against its sample; one pass, one image in memory at a time.

    calibrated: whether the probabilities went through `mnsa calibrate`; the scores say so.
    Images without a label count for the masks alone, images without a mask for the classes alone.
    Raises: DataError when there is nothing to score.
    """
    probs, labels, counts, images = [], [], [], 0
    for sample, prediction in pairs:
        images += 1
        if prediction.class_probs is not None and sample.label != NO_LABEL:
            probs.append(torch.from_numpy(prediction.class_probs))
            labels.append(sample.label)
        if prediction.mask is not None and sample.mask is not None:
            predicted = torch.from_numpy(prediction.mask)[None]
            counts.append(functional.mask_counts(predicted, sample.mask[None], len(mask_classes)))
    if not labels and not counts:
        raise DataError("There is no image with a label or a mask to score. Choose another --split or --data.")
    scores: Scores = {"images": images}
    if labels:
        scores["classification"] = _class_scores(torch.stack(probs), torch.tensor(labels), classes)
        scores["classification"] |= {
            "calibrated": calibrated,
            **_calibration_scores(torch.stack(probs), torch.tensor(labels)),
        }
    if counts:
        scores["segmentation"] = _mask_scores(torch.cat(counts), mask_classes)
    return scores


def _class_scores(probs: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Scores:
    confusion = functional.confusion_matrix(probs, labels)
    correct = (probs.argmax(1) == labels).double().numpy()
    return {
        "images": len(labels),
        "accuracy": functional.accuracy(confusion),
        "accuracy_interval": _interval(lambda drawn: float(correct[drawn].mean()), len(correct)),
        "balanced_accuracy": functional.balanced_accuracy(confusion),
        "macro_f1": functional.macro_f1(confusion),
        "top5_accuracy": functional.top_k_accuracy(probs, labels, 5),
        "classes": list(classes),
        "confusion": confusion.tolist(),  # row: true class, column: predicted class
    }


def _calibration_scores(probs: Tensor, labels: Tensor) -> Scores:
    """Expected calibration error, and the bars of the reliability diagram that it is made of."""
    confidence, predicted = probs.max(1)
    bars = reliability_bins(confidence.double().numpy(), (predicted == labels).numpy())
    return {"ece": expected_calibration_error(bars), "reliability": [bar._asdict() for bar in bars]}


def _mask_scores(counts: Tensor, mask_classes: tuple[str, ...]) -> Scores:
    return {
        "images": len(counts),
        "classes": {
            name: _scores_of_mask_class(counts[:, index : index + 1]) for index, name in enumerate(mask_classes)
        },
    }


def _scores_of_mask_class(counts: Tensor) -> Scores:
    per_image = functional.image_iou(counts).numpy()
    return {
        "iou": _to_number(functional.pooled_iou(counts)),
        "iou_interval": _interval(_pooled_iou_scorer(counts), len(counts)),
        "dice": _to_number(functional.pooled_dice(counts)),
        "iou_per_image": _to_number(functional.image_iou(counts).nanmean()),
        "dice_per_image": _to_number(functional.image_dice(counts).nanmean()),
        # left out of the averages per image: neither prediction nor truth has a pixel of this class
        "images_empty": int(np.isnan(per_image).sum()),
    }


def _pooled_iou_scorer(counts: Tensor) -> Callable[[np.ndarray], float]:
    table = counts[:, 0].double().numpy()

    def score(drawn: np.ndarray) -> float:
        both, predicted, true = table[drawn].sum(0)
        union = predicted + true - both
        return both / union if union else math.nan

    return score


def _interval(score: Callable[[np.ndarray], float], images: int) -> list[float] | None:
    low, high = bootstrap_interval(score, images)
    return None if math.isnan(low) else [low, high]


def _to_number(value: Tensor) -> float | None:
    """A score as JSON knows it: None where there was nothing to score."""
    return None if value.isnan().any() else float(value)
