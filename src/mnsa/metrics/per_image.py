"""One row of scores per image, and which images have the worst and the best scores.

M mask classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from mnsa.metrics import functional
from mnsa.structures import NO_LABEL, Prediction, Sample

ImageRow = dict[str, str | float]  # a cell per column; a number that doesn't exist is left out

N_WORST, N_BEST = 6, 3  # images that are shown


class WorstAndBest(NamedTuple):
    """Places of the worst images, the worst first, and of the best, the best first."""

    worst: list[int]
    best: list[int]


def image_columns(classes: Sequence[str], mask_classes: Sequence[str]) -> list[str]:
    """The columns of `image_row`, in order."""
    named = ["label", "predicted", "probability", "true_probability", "top5"] if classes else []
    return ["image", *named, *(["iou", *(f"iou_{name}" for name in mask_classes)] if mask_classes else [])]


def image_row(sample: Sample, prediction: Prediction, classes: Sequence[str], mask_classes: Sequence[str]) -> ImageRow:
    """Score one prediction.

    label, predicted: names of the true and of the most probable class; probability: of the latter; true_probability: of the
    former. iou_NAME: of each mask class; iou: their mean, without the background.
    """
    row: ImageRow = {"image": sample.path}
    if classes and sample.label != NO_LABEL:
        row["label"] = classes[sample.label]
    if prediction.class_probs is not None:
        best = prediction.class_probs.argsort()[::-1][:5]
        row["predicted"], row["probability"] = classes[best[0]], float(prediction.class_probs[best[0]])
        row["top5"] = "; ".join(f"{classes[k]} {prediction.class_probs[k]:.4f}" for k in best)
        if sample.label != NO_LABEL:
            row["true_probability"] = float(prediction.class_probs[sample.label])
    if prediction.mask is not None and sample.mask is not None:
        row |= _ious(sample.mask, torch.from_numpy(prediction.mask), mask_classes)
    return row


def worst_and_best(values: Sequence[float | None]) -> WorstAndBest:
    """Pick the images with the lowest and the highest values; None: has none. No image is in both lists."""
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    places = [place for _, place in known]
    best = min(N_BEST, len(places) // 2)
    return WorstAndBest(places[: min(N_WORST, len(places) - best)], places[len(places) - best :][::-1])


def _ious(truth: torch.Tensor, predicted: torch.Tensor, mask_classes: Sequence[str]) -> ImageRow:
    values = functional.image_iou(functional.mask_counts(predicted[None], truth[None], len(mask_classes)))[0]
    foreground = values if len(mask_classes) == 1 else values[1:]
    named = [("iou", foreground.nanmean()), *((f"iou_{n}", v) for n, v in zip(mask_classes, values, strict=True))]
    return {name: float(value) for name, value in named if not value.isnan()}
