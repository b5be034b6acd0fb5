"""The scores of a run: confusion matrix, scores of each class and mask class, and reliability diagrams.

K classes; in a confusion matrix rows are true classes and columns are predicted classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnsa.metrics.calibration import ReliabilityBin
from mnsa.metrics.scores import Evaluation, format_score
from mnsa.report.rendering import BLUE, GRAY, ORANGE, RED, WIDTH_IN, add_legend_above, inline_svg, new_axes
from mnsa.report.run_record import RunRecord, SplitScores

MAX_NAMED_CLASSES = 40  # a matrix with more classes has no names

MAX_COUNTED_CLASSES = 20  # a matrix with more classes has no counts

MAX_CONFUSED_PAIRS = 15

# From light to full, on a light and on a dark page: correct predictions, and wrong ones.
_CORRECT_COLORS = LinearSegmentedColormap.from_list("correct", [to_rgba(BLUE, 0.2), to_rgba(BLUE, 1)])

_WRONG_COLORS = LinearSegmentedColormap.from_list("wrong", [to_rgba(ORANGE, 0.25), to_rgba(RED, 1)])


class ClassScore(NamedTuple):
    """The scores of one class; None: nothing to score.

    images: of the class. predicted: images predicted as the class.
    """

    name: str
    images: int
    predicted: int
    recall: float | None
    precision: float | None
    f1: float | None
    confused_with: str  # the most frequent wrong prediction for its images


class ConfusedPair(NamedTuple):
    """Images of class `true` that were predicted as `predicted`; share: fraction of that class."""

    true: str
    predicted: str
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class ConfusionSection:
    """A confusion matrix with its caption, and the rows of the tables below it, as text."""

    svg: Markup
    caption: str
    pairs: list[tuple[str, ...]]
    classes: list[tuple[str, ...]]


class MaskTable(NamedTuple):
    """A table of text: of mask classes, the lowest IoU first, or of their topology scores."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def confusion_section(evaluation: Evaluation, name: str) -> ConfusionSection | None:
    """Show the confusion matrix of an evaluation; None without labeled images. name: of the SVG, unique on the page."""
    if not evaluation.confusion:
        return None
    names, counts = evaluation.classes, evaluation.confusion
    caption = (
        "Rows: true class. Columns: predicted class. Correct in blue, wrong in orange and red. The stronger the color, "
        f"the greater the share of the row. {evaluation.sizes['classification'].images} images."
    )
    if len(names) > MAX_NAMED_CLASSES:
        caption += f" {len(names)} classes in the order of the data set; the table shows the most confused pairs."
    pairs = most_confused(names, counts, MAX_CONFUSED_PAIRS)
    return ConfusionSection(
        inline_svg(name, lambda: plot_confusion_matrix(names, counts)),
        caption,
        [(one.true, one.predicted, str(one.images), f"{one.share:.0%}") for one in pairs],
        [_class_row(one) for one in class_scores(names, counts)],
    )


def class_scores(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Recall, precision and F1 of each class, in the order of `names`, which is that of the matrix."""
    counts = np.asarray(confusion)
    images, predicted, correct = counts.sum(1), counts.sum(0), counts.diagonal()
    wrong = counts - np.diag(correct)
    return [
        ClassScore(
            name,
            int(images[k]),
            int(predicted[k]),
            recall=_fraction(correct[k], images[k]),
            precision=_fraction(correct[k], predicted[k]),
            f1=_fraction(2 * correct[k], images[k] + predicted[k]),
            confused_with=names[wrong[k].argmax()] if wrong[k].any() else "",
        )
        for k, name in enumerate(names)
    ]


def most_confused(names: Sequence[str], confusion: Sequence[Sequence[int]], count: int) -> list[ConfusedPair]:
    """The pairs of classes that are confused most often, at most `count` of them."""
    counts = np.asarray(confusion)
    wrong = counts - np.diag(counts.diagonal())
    pairs = [(int(true), int(predicted)) for true, predicted in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-wrong[pair], -wrong[pair] / counts[pair[0]].sum(), pair))
    return [
        ConfusedPair(
            names[true], names[predicted], int(wrong[true, predicted]), wrong[true, predicted] / counts[true].sum()
        )
        for true, predicted in pairs[:count]
    ]


def plot_confusion_matrix(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> Figure:
    """True classes by predicted ones; the color of a cell is its share of the row. Many classes have no labels."""
    counts = np.asarray(confusion)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(names)
    side = min(max(3.6, 0.34 * classes + 1.4), 9.0) if classes <= MAX_NAMED_CLASSES else 6.0
    figure, axes = new_axes("predicted", "true", width=side, height=side)
    diagonal = np.eye(classes, dtype=bool)
    for colors, others in ((_CORRECT_COLORS, ~diagonal), (_WRONG_COLORS, diagonal)):
        cells = np.ma.masked_where(others | (counts == 0), share)
        # a square root, so that one wrong image in a hundred is visible
        axes.imshow(cells, cmap=colors, norm=PowerNorm(0.5, 0, 1), interpolation="antialiased")
    axes.spines[["top", "right"]].set_visible(True)
    if classes <= MAX_NAMED_CLASSES:
        size = 8 if classes <= MAX_COUNTED_CLASSES else 6
        axes.set_xticks(range(classes), names, rotation=90, fontsize=size)
        axes.set_yticks(range(classes), names, fontsize=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if classes <= MAX_COUNTED_CLASSES:
        for true, predicted in np.argwhere(counts):
            text = axes.text(predicted, true, str(counts[true, predicted]), ha="center", va="center", fontsize=8)
            if share[true, predicted] > 0.5:
                text.set_color("#ffffff")
    return figure


def mask_table(evaluation: Evaluation) -> MaskTable | None:
    """A column per score of the masks, and one per interval; None without masks."""
    scores = evaluation.of_group("segmentation")
    if not scores:
        return None
    labels = {score.name: score.label for score in scores}
    with_interval = {score.name for score in scores if score.interval}
    head = ["mask class"]
    for name, label in labels.items():
        head += [label, *(["95 % interval"] if name in with_interval else [])]
    by_class = {(score.mask_class, score.name): score for score in scores}
    rows = []
    for mask_class in sorted(evaluation.mask_classes, key=lambda one: _iou_sort_key(evaluation, one)):
        row = [mask_class]
        for name in labels:
            score = by_class.get((mask_class, name))
            row.append(format_score(score.value, score.unit) if score else "")
            if name in with_interval:
                row.append(score.interval_text if score else "")
        rows.append(tuple(row))
    return MaskTable(tuple(head), rows)


def topology_table(evaluation: Evaluation) -> MaskTable | None:
    """A row per topology score, two columns per thin mask class; None without one."""
    scores = evaluation.of_group("topology")
    if not scores:
        return None
    mask_classes = dict.fromkeys(score.mask_class for score in scores)
    rows: dict[str, list[str]] = {}
    for score in scores:
        row = rows.setdefault(score.name, [score.label])
        row += [format_score(score.value, score.unit), score.interval_text]
    head = [column for name in mask_classes for column in (name, "95 % interval")]
    return MaskTable(("score", *head), [tuple(row) for row in rows.values()])


def reliability_figures(run: RunRecord) -> Iterator[tuple[Markup, str]]:
    """The diagrams of a run with their captions."""
    calibration = run.calibration
    for number, split in enumerate(run.evaluated):
        entry = split.evaluation
        if entry.reliability:
            state = "calibrated" if entry.calibrated else "not calibrated"
            error, images = format_score(entry.value("ece")), entry.sizes["classification"].images
            threshold = calibration.threshold if calibration and entry.calibrated else None
            caption = f"Split {split.title}, {state}: calibration error {error}, {images} images."
            yield _reliability_svg(f"reliability-split{number}", entry.reliability, threshold), caption
    for when, text in (("before", "before the temperature"), ("after", "after it, on the images it was fitted to")):
        if calibration:
            error = format_score(calibration.ece[when])
            caption = f"Split {calibration.split}, {text}: calibration error {error}, {calibration.images} images."
            threshold = calibration.threshold if when == "after" else None
            yield _reliability_svg(f"reliability-{when}", calibration.reliability[when], threshold), caption


def uncalibrated_splits(run: RunRecord) -> list[SplitScores]:
    """The splits that were evaluated before the run was calibrated."""
    if run.calibration is None:
        return []
    return [
        split
        for split in run.evaluated
        if split.evaluation.reliability and not split.evaluation.calibrated and split.head == "network"
    ]


def plot_reliability(bars: Sequence[ReliabilityBin], *, threshold: float | None = None) -> Figure:
    """Accuracy by confidence; below it the number of images in each bin."""
    figure = Figure(figsize=(WIDTH_IN * 0.8, WIDTH_IN * 0.95), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    filled = [bar for bar in bars if bar.images and bar.accuracy is not None and bar.confidence is not None]
    lefts, widths = [bar.low for bar in filled], [bar.high - bar.low for bar in filled]
    upper.bar(lefts, [bar.accuracy or 0 for bar in filled], widths, align="edge", color=BLUE, alpha=0.75)
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=1.2, linestyle="--", label="perfect calibration")
    dots = [(bar.confidence, bar.accuracy) for bar in filled]
    upper.plot(*zip(*dots, strict=True), "o", color=ORANGE, markersize=4, label="mean confidence")
    lower.bar(lefts, [bar.images for bar in filled], widths, align="edge", color=GRAY)
    if threshold is not None:
        for axes in (upper, lower):
            axes.axvline(threshold, color=ORANGE, linewidth=1.2, linestyle=":")
        upper.plot([], [], color=ORANGE, linestyle=":", label="below: unknown")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    lower.set(ylabel="images", xlabel="confidence")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    for axis in (upper.yaxis, lower.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    add_legend_above(upper)
    return figure


def _class_row(one: ClassScore) -> tuple[str, ...]:
    scores = (format_score(value) for value in (one.recall, one.precision, one.f1))
    return one.name, str(one.images), str(one.predicted), *scores, one.confused_with


def _iou_sort_key(evaluation: Evaluation, mask_class: str) -> tuple[bool, float]:
    values = [score.value for score in evaluation.scores if (score.name, score.mask_class) == ("iou", mask_class)]
    value = values[0] if values else None
    return value is None, value or 0.0


def _fraction(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _reliability_svg(name: str, bars: Sequence[ReliabilityBin], threshold: float | None) -> Markup:
    return inline_svg(name, lambda: plot_reliability(bars, threshold=threshold))
