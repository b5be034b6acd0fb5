"""What is kept of one image's answer, and which images are the worst and the best: plain rows, no pixels.

M mask classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from mnsa.evaluation import metrics
from mnsa.records import NO_LABEL, Prediction, Sample

Row = dict[str, str | float]  # a cell per column; a number that doesn't exist is left out
WORST, BEST = 6, 3  # images that are shown


class Extremes(NamedTuple):
    """Places of the worst images, the worst first, and of the best, the best first."""

    worst: list[int]
    best: list[int]


def image_columns(classes: Sequence[str], mask_classes: Sequence[str]) -> list[str]:
    """The columns of `image_row`, in order."""
    named = ["label", "said", "probability", "true_probability", "top5"] if classes else []
    return ["image", *named, *(["iou", *(f"iou_{name}" for name in mask_classes)] if mask_classes else [])]


def image_row(sample: Sample, answer: Prediction, classes: Sequence[str], mask_classes: Sequence[str]) -> Row:
    """Score one answer.

    label, said: names of the true and of the most probable class; probability: of the latter; true_probability: of the
    former. iou_NAME: of each mask class; iou: their mean, without the background.
    """
    row: Row = {"image": sample.path}
    if classes and sample.label != NO_LABEL:
        row["label"] = classes[sample.label]
    if answer.class_probs is not None:
        best = answer.class_probs.argsort()[::-1][:5]
        row["said"], row["probability"] = classes[best[0]], float(answer.class_probs[best[0]])
        row["top5"] = "; ".join(f"{classes[k]} {answer.class_probs[k]:.4f}" for k in best)
        if sample.label != NO_LABEL:
            row["true_probability"] = float(answer.class_probs[sample.label])
    if answer.mask is not None and sample.mask is not None:
        row |= _ious(sample.mask, torch.from_numpy(answer.mask), mask_classes)
    return row


def extremes(values: Sequence[float | None]) -> Extremes:
    """Pick the images with the lowest and the highest values; None: has none. No image is in both lists."""
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    places = [place for _, place in known]
    best = min(BEST, len(places) // 2)
    return Extremes(places[: min(WORST, len(places) - best)], places[len(places) - best :][::-1])


def _ious(truth: torch.Tensor, said: torch.Tensor, mask_classes: Sequence[str]) -> Row:
    values = metrics.image_iou(metrics.mask_counts(said[None], truth[None], len(mask_classes)))[0]
    foreground = values if len(mask_classes) == 1 else values[1:]
    named = [("iou", foreground.nanmean()), *((f"iou_{n}", v) for n, v in zip(mask_classes, values, strict=True))]
    return {name: float(value) for name, value in named if not value.isnan()}
