"""Score the predictions of a split at the images' own size. A new metric is one line in CLASS_METRICS or MASK_METRICS.

N images; K classes; M mask classes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from mnsa.errors import DataError
from mnsa.metrics import functional
from mnsa.metrics.calibration import reliability_bins
from mnsa.metrics.functional import ClassResults
from mnsa.metrics.scores import Evaluation, ResamplingUnit, SampleSize, Score, ScoreGroup, Unit
from mnsa.structures import NO_LABEL, Prediction, Sample

Results = TypeVar("Results")


@dataclass(frozen=True, slots=True)
class Metric(Generic[Results]):
    """How one score is computed.

    interval: whether it gets a bootstrap interval. The other fields are those of `Score`.
    """

    name: str
    label: str
    compute: Callable[[Results], float]
    interval: bool = False
    headline: bool = False
    unit: Unit = "fraction"


CLASS_METRICS: list[Metric[ClassResults]] = [
    Metric("accuracy", "accuracy", functional.accuracy, interval=True, headline=True),
    Metric("balanced_accuracy", "balanced accuracy", functional.balanced_accuracy),
    Metric("macro_f1", "macro F1", functional.macro_f1, headline=True),
    Metric("top5_accuracy", "top-5 accuracy", functional.top5_accuracy),
    Metric("ece", "calibration error", functional.calibration_error, headline=True),
]

# Each takes the counts of one mask class: (N, 3).
MASK_METRICS: list[Metric[np.ndarray]] = [
    Metric("iou", "IoU", lambda counts: float(functional.pooled_iou(counts)), interval=True, headline=True),
    Metric("dice", "Dice", lambda counts: float(functional.pooled_dice(counts)), headline=True),
    Metric("iou_per_image", "IoU per image", functional.mean_image_iou),
    Metric("dice_per_image", "Dice per image", functional.mean_image_dice),
    Metric("images_empty", "empty images", functional.images_empty, unit="images"),
]


def score_predictions(
    pairs: Iterable[tuple[Sample, Prediction]], classes: tuple[str, ...], mask_classes: tuple[str, ...], *,
    dataset: str = "", calibrated: bool = False,
) -> Evaluation:  # fmt: skip
    """Score each prediction against its sample; one pass, one image in memory at a time.

    dataset: its name. calibrated: whether the probabilities were calibrated; the evaluation stores both.
    Images without a label count for the masks alone, images without a mask for the classes alone. Intervals draw groups
    where samples have a group (`bootstrap_interval`). Raises: DataError when there is nothing to score.
    """
    labeled: list[ClassResults] = []
    counts: list[np.ndarray] = []
    class_groups: list[str | None] = []
    mask_groups: list[str | None] = []
    images = 0
    for sample, prediction in pairs:
        images += 1
        if prediction.class_probs is not None and sample.label != NO_LABEL:
            labeled.append(ClassResults.from_probs(prediction.class_probs[None], np.array([sample.label])))
            class_groups.append(sample.group)
        if prediction.mask is not None and sample.mask is not None:
            counts.append(functional.mask_counts(prediction.mask, np.asarray(sample.mask), len(mask_classes)))
            mask_groups.append(sample.group)
    if not labeled and not counts:
        raise DataError("There is no image with a label or a mask to score. Choose another --split or --data.")
    scores, sizes = [], {}
    confusion: list[list[int]] = []
    reliability = []
    if labeled:
        results = _concatenate(labeled)
        sizes["classification"] = _sample_size(class_groups)
        scores += _compute_scores(CLASS_METRICS, results, "classification", class_groups, results.take)
        confusion = functional.confusion_matrix(results).tolist()
        reliability = reliability_bins(results.confidence, results.correct)
    if counts:
        sizes["segmentation"] = _sample_size(mask_groups)
        for name, one in zip(mask_classes, np.stack(counts).swapaxes(0, 1), strict=True):
            scores += _compute_scores(MASK_METRICS, one, "segmentation", mask_groups, one.__getitem__, name)
    return Evaluation(
        dataset=dataset, images=images, calibrated=calibrated, sizes=sizes, scores=tuple(scores),
        classes=classes if labeled else (), confusion=confusion, reliability=tuple(reliability),
    )  # fmt: skip


def bootstrap_interval(
    score: Callable[[np.ndarray], float], groups: np.ndarray, *,
    resamples: int = 1000, level: float = 0.95, seed: int = 0,
) -> tuple[float, float] | None:  # fmt: skip
    """The interval of `score` when whole groups are drawn again, with replacement (cluster bootstrap, percentiles).

    Photos of one plant are not independent, so their group is drawn as a whole: G of G groups in each of `resamples`
    draws. score: takes image indices, returns a number; draws that give NaN are left out. groups: group index of each
    image, 0 .. G - 1 (N,). Returns: lower and upper bound; None for fewer than two groups, or when no draw has a score.
    Sources: B. Efron, "Bootstrap methods", Annals of Statistics 7 (1979); A. C. Davison, D. V. Hinkley, "Bootstrap
    Methods and their Application" (1997), section 3.8.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        return None
    members = np.argsort(groups, kind="stable")  # image indices, group after group
    starts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    draws = np.array([score(_draw_images(rng, members, starts, sizes)) for _ in range(resamples)])
    draws = draws[~np.isnan(draws)]
    if draws.size == 0:
        return None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draw_images(
    rng: np.random.Generator, members: np.ndarray, starts: np.ndarray, sizes: np.ndarray
) -> np.ndarray:  # fmt: skip
    """The images of as many groups as there are, drawn with replacement."""
    drawn = rng.integers(0, len(sizes), len(sizes))
    lengths = sizes[drawn]
    ends = np.cumsum(lengths)
    images: np.ndarray = members[np.repeat(starts[drawn] - ends + lengths, lengths) + np.arange(ends[-1])]
    return images


def _compute_scores(
    metrics: Sequence[Metric[Results]], results: Results, group: ScoreGroup, groups: Sequence[str | None],
    take: Callable[[np.ndarray], Results], mask_class: str = "",
) -> list[Score]:  # fmt: skip
    indices = _group_indices(groups)
    scores = []
    for metric in metrics:
        value = metric.compute(results)
        interval = None
        if metric.interval and not math.isnan(value):
            interval = bootstrap_interval(lambda images, metric=metric: metric.compute(take(images)), indices)  # type: ignore[misc]
        scores.append(
            Score(
                metric.name, None if math.isnan(value) else value, interval, metric.unit, group, metric.label,
                mask_class, metric.headline,
            )
        )  # fmt: skip
    return scores


def _concatenate(results: Sequence[ClassResults]) -> ClassResults:
    labels, predicted, confidence, rank = (
        np.concatenate([getattr(one, name) for one in results])
        for name in ("labels", "predicted", "confidence", "rank")
    )
    return ClassResults(labels, predicted, confidence, rank, results[0].n_classes)


def _group_indices(groups: Sequence[str | None]) -> np.ndarray:
    """The group index of each image, in order of first occurrence; an image without a group is a group by itself."""
    keys: dict[tuple[str, str | int], int] = {}
    named = [("image", place) if not group else ("group", group) for place, group in enumerate(groups)]
    return np.array([keys.setdefault(key, len(keys)) for key in named])


def _sample_size(groups: Sequence[str | None]) -> SampleSize:
    unit: ResamplingUnit = "groups" if any(groups) else "images"
    return SampleSize(len(groups), unit, len(set(_group_indices(groups).tolist())))
