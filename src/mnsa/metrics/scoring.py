"""Score predictions at the images' own size: class scores, and per mask class IoU and Dice."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnsa.errors import DataError
from mnsa.evaluation import metrics
from mnsa.evaluation.calibration import calibration_error, reliability
from mnsa.evaluation.intervals import bootstrap_interval
from mnsa.records import NO_LABEL, Prediction, Sample

Scores = dict[str, Any]  # what evaluation.json holds: plain numbers, lists and names


def evaluate(
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
            said = torch.from_numpy(prediction.mask)[None]
            counts.append(metrics.mask_counts(said, sample.mask[None], len(mask_classes)))
    if not labels and not counts:
        raise DataError("There is no image with a label or a mask to score. Choose another --split or --data.")
    scores: Scores = {"images": images}
    if labels:
        scores["classification"] = _class_scores(torch.stack(probs), torch.tensor(labels), classes)
        scores["classification"] |= {"calibrated": calibrated, **_sureness(torch.stack(probs), torch.tensor(labels))}
    if counts:
        scores["segmentation"] = _mask_scores(torch.cat(counts), mask_classes)
    return scores


def _class_scores(probs: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Scores:
    confusion = metrics.confusion_matrix(probs, labels)
    right = (probs.argmax(1) == labels).double().numpy()
    return {
        "images": len(labels),
        "accuracy": metrics.accuracy(confusion),
        "accuracy_interval": _interval(lambda drawn: float(right[drawn].mean()), len(right)),
        "balanced_accuracy": metrics.balanced_accuracy(confusion),
        "macro_f1": metrics.macro_f1(confusion),
        "top5_accuracy": metrics.top_k_accuracy(probs, labels, 5),
        "classes": list(classes),
        "confusion": confusion.tolist(),  # row: true class, column: predicted class
    }


def _sureness(probs: Tensor, labels: Tensor) -> Scores:
    """Expected calibration error, and the bars of the reliability diagram that it is made of."""
    confidence, said = probs.max(1)
    bars = reliability(confidence.double().numpy(), (said == labels).numpy())
    return {"ece": calibration_error(bars), "reliability": [bar._asdict() for bar in bars]}


def _mask_scores(counts: Tensor, mask_classes: tuple[str, ...]) -> Scores:
    return {
        "images": len(counts),
        "classes": {name: _one_mask_class(counts[:, index : index + 1]) for index, name in enumerate(mask_classes)},
    }


def _one_mask_class(counts: Tensor) -> Scores:
    per_image = metrics.image_iou(counts).numpy()
    return {
        "iou": _number(metrics.pooled_iou(counts)),
        "iou_interval": _interval(_pooled_iou_of(counts), len(counts)),
        "dice": _number(metrics.pooled_dice(counts)),
        "iou_per_image": _number(metrics.image_iou(counts).nanmean()),
        "dice_per_image": _number(metrics.image_dice(counts).nanmean()),
        # left out of the averages per image: neither prediction nor truth has a pixel of this class
        "images_empty": int(np.isnan(per_image).sum()),
    }


def _pooled_iou_of(counts: Tensor) -> Callable[[np.ndarray], float]:
    table = counts[:, 0].double().numpy()

    def score(drawn: np.ndarray) -> float:
        both, said, true = table[drawn].sum(0)
        union = said + true - both
        return both / union if union else math.nan

    return score


def _interval(score: Callable[[np.ndarray], float], images: int) -> list[float] | None:
    low, high = bootstrap_interval(score, images)
    return None if math.isnan(low) else [low, high]


def _number(value: Tensor) -> float | None:
    """A score as JSON knows it: None where there was nothing to score."""
    return None if value.isnan().any() else float(value)
