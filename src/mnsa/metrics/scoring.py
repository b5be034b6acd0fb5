"""Score the predictions of a split at the images' own size.

A new metric is one line in CLASS_METRICS, MASK_METRICS or TOPOLOGY_METRICS. N images; K classes; M mask classes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Generic, TypeVar

import numpy as np

from mnsa.errors import DataError
from mnsa.metrics import functional, topology
from mnsa.metrics.calibration import reliability_bins
from mnsa.metrics.functional import ClassResults
from mnsa.metrics.scores import Evaluation, IntervalMethod, ResamplingUnit, SampleSize, Score, ScoreGroup, Unit
from mnsa.structures import NO_LABEL, Prediction, Sample

Results = TypeVar("Results")


@dataclass(frozen=True, slots=True)
class Metric(Generic[Results]):
    """How one score is computed.

    interval: whether it gets an interval. share: whether it is a share of images, so that Wilson's interval holds. The
    other fields are those of `Score`.
    """

    name: str
    label: str
    compute: Callable[[Results], float]
    interval: bool = False
    headline: bool = False
    unit: Unit = "fraction"
    share: bool = False


CLASS_METRICS: list[Metric[ClassResults]] = [
    Metric("accuracy", "accuracy", functional.accuracy, interval=True, headline=True, share=True),
    Metric("balanced_accuracy", "balanced accuracy", functional.balanced_accuracy),
    Metric("macro_f1", "macro F1", functional.macro_f1, headline=True),
    Metric("top5_accuracy", "top-5 accuracy", functional.top5_accuracy, interval=True, share=True),
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

_TOLERANCE = f"at {topology.TOLERANCE_PX:g} px"

# Each takes the rows of one thin mask class: TOPOLOGY_DTYPE (N,).
TOPOLOGY_METRICS: list[Metric[np.ndarray]] = [
    Metric("cldice", "clDice", topology.mean_cl_dice, interval=True, headline=True),
    Metric("betti0_error", "Betti-0 error", topology.betti0_error, interval=True, headline=True, unit="count"),
    Metric("betti1_error", "Betti-1 error", topology.betti1_error, interval=True, headline=True, unit="count"),
    Metric("areole_f1", "areole F1", topology.areole_f1, interval=True, headline=True),
    Metric("areole_count_bias", "areole count bias", topology.areole_count_bias, interval=True, unit="relative"),
    Metric("areole_count_r", "areole count r", topology.areole_count_r, interval=True, unit="correlation"),
    Metric("length_bias", "length bias", topology.length_bias, interval=True, unit="relative"),
    Metric("length_r", "length r", topology.length_r, interval=True, unit="correlation"),
    Metric("boundary_f1", f"boundary F1 {_TOLERANCE}", topology.boundary_f1, interval=True),
    Metric("centerline_recall", f"centerline recall {_TOLERANCE}", topology.centerline_recall, interval=True),
    Metric("centerline_precision", f"centerline precision {_TOLERANCE}", topology.centerline_precision, interval=True),
]


class SplitScorer:
    """Collect what the metrics need of each image, and compute the scores of all.

    Images without a label count for the masks alone, images without a mask for the classes alone. Intervals draw groups
    where samples have a group (`bootstrap_interval`).
    topology: TOPOLOGY_DTYPE (M,) of each image, None without a mask.
    """

    def __init__(self, classes: tuple[str, ...], mask_classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.mask_classes = mask_classes
        self.topology: list[np.ndarray | None] = []
        self._labeled: list[ClassResults] = []
        self._counts: list[np.ndarray] = []
        self._class_groups: list[str | None] = []
        self._mask_groups: list[str | None] = []

    @property
    def thin_classes(self) -> tuple[str, ...]:
        """The mask classes that have topology scores; see `is_thin_class`."""
        return tuple(name for name, rows in self._topology_rows() if topology.is_thin_class(rows))

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """The mask classes without a true pixel; they have no scores."""
        there = functional.occurs(np.stack(self._counts)) if self._counts else np.ones(len(self.mask_classes), bool)
        return tuple(name for name, occurs in zip(self.mask_classes, there, strict=True) if not occurs)

    def add(self, sample: Sample, prediction: Prediction) -> None:
        """Add one image."""
        if prediction.class_probs is not None and sample.label != NO_LABEL:
            self._labeled.append(ClassResults.from_probs(prediction.class_probs[None], np.array([sample.label])))
            self._class_groups.append(sample.group)
        if prediction.mask is None or sample.mask is None:
            self.topology.append(None)
            return
        masks = prediction.mask, np.asarray(sample.mask), len(self.mask_classes)
        self._counts.append(functional.mask_counts(*masks))
        self._mask_groups.append(sample.group)
        self.topology.append(topology.mask_topology(*masks))

    def compute(self, *, dataset: str = "", calibrated: bool = False) -> Evaluation:
        """Score all images. dataset, calibrated: of the evaluation. Raises: DataError with nothing to score."""
        if not self._labeled and not self._counts:
            raise DataError("There is no image with a label or a mask to score. Choose another --split or --data.")
        scores, sizes = [], {}
        confusion: list[list[int]] = []
        reliability = []
        if self._labeled:
            results = _concatenate(self._labeled)
            sizes["classification"] = _sample_size(self._class_groups)
            scores += _compute_scores(CLASS_METRICS, results, "classification", self._class_groups, results.take)
            confusion = functional.confusion_matrix(results).tolist()
            reliability = reliability_bins(results.confidence, results.correct)
        if self._counts:
            sizes["segmentation"] = _sample_size(self._mask_groups)
            for name, one in zip(self.mask_classes, np.stack(self._counts).swapaxes(0, 1), strict=True):
                scores += self._score_mask_class(MASK_METRICS, one, "segmentation", name)
        if thin := self.thin_classes:
            sizes["topology"] = _sample_size(self._mask_groups)
            for name, rows in self._topology_rows():
                if name in thin:
                    scores += self._score_mask_class(TOPOLOGY_METRICS, rows, "topology", name)
        return Evaluation(
            dataset=dataset, images=len(self.topology), calibrated=calibrated, sizes=sizes, scores=tuple(scores),
            classes=self.classes if self._labeled else (), confusion=confusion, reliability=tuple(reliability),
        )  # fmt: skip

    def _topology_rows(self) -> list[tuple[str, np.ndarray]]:
        """Each mask class with its rows of the images with a mask, (N,)."""
        rows = [one for one in self.topology if one is not None]
        return list(zip(self.mask_classes, np.stack(rows).swapaxes(0, 1), strict=True)) if rows else []

    def _score_mask_class(
        self, metrics: Sequence[Metric[np.ndarray]], rows: np.ndarray, group: ScoreGroup, name: str
    ) -> list[Score]:
        return _compute_scores(metrics, rows, group, self._mask_groups, rows.__getitem__, name)


def score_predictions(
    pairs: Iterable[tuple[Sample, Prediction]], classes: tuple[str, ...], mask_classes: tuple[str, ...], *,
    dataset: str = "", calibrated: bool = False,
) -> Evaluation:  # fmt: skip
    """Score each prediction against its sample; one pass, one image in memory at a time.

    dataset: its name. calibrated: whether the probabilities were calibrated; the evaluation stores both. See
    `SplitScorer`. Raises: DataError when there is nothing to score.
    """
    scorer = SplitScorer(classes, mask_classes)
    for sample, prediction in pairs:
        scorer.add(sample, prediction)
    return scorer.compute(dataset=dataset, calibrated=calibrated)


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


def wilson_interval(share: float, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of `count` independent units; it has a width also for 0 and 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    center = share + z2 / (2 * count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2)))
    low, high = (center - half) / (1 + z2 / count), (center + half) / (1 + z2 / count)
    return max(low, 0.0) if share else 0.0, min(high, 1.0) if share < 1 else 1.0  # exact where rounding would not be


def _interval(
    metric: Metric[Results], value: float, groups: np.ndarray, take: Callable[[np.ndarray], Results]
) -> tuple[tuple[float, float] | None, IntervalMethod]:
    """The interval of a score, and its method.

    Where all draws of the bootstrap are equal, as for ten of ten, it says nothing: a share then has Wilson's interval
    over the groups, another score none.
    """
    bounds = bootstrap_interval(lambda images: metric.compute(take(images)), groups)
    if bounds is None or bounds[0] < bounds[1]:
        return bounds, "bootstrap"
    return (wilson_interval(value, int(groups.max()) + 1), "Wilson") if metric.share else (None, "bootstrap")


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
        interval: tuple[float, float] | None = None
        method: IntervalMethod = "bootstrap"
        if metric.interval and not math.isnan(value):
            interval, method = _interval(metric, value, indices, take)
        scores.append(
            Score(
                metric.name, None if math.isnan(value) else value, interval, metric.unit, group, metric.label,
                mask_class, metric.headline, method,
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
