"""The figures of a run: learning curves, confusion matrix and reliability diagram."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from mnsa.metrics.calibration import ReliabilityBin
from mnsa.report.plotting import ACCENT, BLUE, GRAY, GREEN, RED, SECOND, WIDTH_IN, add_legend_above, new_axes

MAX_NAMED_CLASSES, MAX_COUNTED_CLASSES = (
    40,
    20,
)  # so many classes have their names on the matrix, and so many their counts

# From faint to full, on light ground and on dark: right answers, and wrong ones.
_RIGHT_COLORS = LinearSegmentedColormap.from_list("right", [to_rgba(ACCENT, 0.2), to_rgba("#1c68ad", 1)])

_WRONG_COLORS = LinearSegmentedColormap.from_list("wrong", [to_rgba(SECOND, 0.25), to_rgba("#b75f06", 1)])

_TERM_COLORS = (SECOND, GREEN, RED, GRAY, BLUE)

_SCORE_LABELS = {"val_accuracy": "accuracy", "val_iou": "IoU", "val_score": "score (their mean)"}


def plot_losses(epochs: Sequence[Mapping[str, str]]) -> Figure:
    """The training loss and its terms, epoch by epoch, on a logarithmic scale."""
    figure, axes = new_axes("epoch", "training loss", width=WIDTH_IN, height=3.0)
    names = [name for name in _column_names(epochs) if name.startswith("loss_")]
    _plot_column(axes, epochs, "loss", label="loss", color=ACCENT, linewidth=2)
    for name, color in zip(names if len(names) > 1 else [], _TERM_COLORS, strict=False):
        _plot_column(axes, epochs, name, label=name.removeprefix("loss_"), color=color, linewidth=1, linestyle="--")
    if all(value > 0 for value in _column_values(epochs, "loss") if not np.isnan(value)):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    _mark_stages(axes, epochs)
    add_legend_above(axes)
    return figure


def plot_scores(epochs: Sequence[Mapping[str, str]]) -> Figure:
    """Validation scores, epoch by epoch, and the epoch that each stage kept."""
    figure, axes = new_axes("epoch", "validation", width=WIDTH_IN, height=3.0)
    names = [name for name in _SCORE_LABELS if name in _column_names(epochs)]
    names = names if len(names) == len(_SCORE_LABELS) else names[:1]  # of one task the score is the same
    for name, color in zip(names, (ACCENT, SECOND, GRAY), strict=False):
        _plot_column(axes, epochs, name, label=_SCORE_LABELS[name], color=color, linewidth=1.8)
    for place in best_epochs(epochs):
        axes.axvline(place, color=GRAY, linewidth=1, linestyle=":")
    axes.set_ylim(0, 1)
    _mark_stages(axes, epochs)
    add_legend_above(axes)
    return figure


def best_epochs(epochs: Sequence[Mapping[str, str]]) -> list[int]:
    """The best validation epoch of each stage, counted over all stages from 1."""
    best: dict[str, tuple[float, int]] = {}
    for place, value in enumerate(_column_values(epochs, "val_score"), start=1):
        stage = epochs[place - 1].get("stage", "")
        if not np.isnan(value) and value > best.get(stage, (-1.0, 0))[0]:
            best[stage] = value, place
    return [place for _, place in best.values()]


def plot_confusion_matrix(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> Figure:
    """True classes by predicted ones; a cell's depth is its share of the row. Many classes have no labels."""
    counts = np.asarray(confusion)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(names)
    side = min(max(3.6, 0.34 * classes + 1.4), 9.0) if classes <= MAX_NAMED_CLASSES else 6.0
    figure, axes = new_axes("predicted", "true", width=side, height=side)
    even = np.eye(classes, dtype=bool)
    for colors, others in ((_RIGHT_COLORS, ~even), (_WRONG_COLORS, even)):
        cells = np.ma.masked_where(others | (counts == 0), share)
        # a root, so that a mistake made once in a hundred images can be seen
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


def plot_reliability(bars: Sequence[ReliabilityBin], *, threshold: float | None = None) -> Figure:
    """Share of right answers by confidence, over how many images each bar rests on."""
    figure = Figure(figsize=(WIDTH_IN * 0.8, WIDTH_IN * 0.95), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    filled = [bar for bar in bars if bar.images and bar.accuracy is not None and bar.confidence is not None]
    lefts, widths = [bar.low for bar in filled], [bar.high - bar.low for bar in filled]
    upper.bar(lefts, [bar.accuracy or 0 for bar in filled], widths, align="edge", color=ACCENT, alpha=0.75)
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=1.2, linestyle="--", label="sure as right")
    dots = [(bar.confidence, bar.accuracy) for bar in filled]
    upper.plot(*zip(*dots, strict=True), "o", color=SECOND, markersize=4, label="mean confidence")
    lower.bar(lefts, [bar.images for bar in filled], widths, align="edge", color=GRAY)
    if threshold is not None:
        for axes in (upper, lower):
            axes.axvline(threshold, color=SECOND, linewidth=1.2, linestyle=":")
        upper.plot([], [], color=SECOND, linestyle=":", label="below: unknown")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="right")
    lower.set(ylabel="images", xlabel="confidence")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    for axis in (upper.yaxis, lower.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    add_legend_above(upper)
    return figure


def _plot_column(axes: Axes, epochs: Sequence[Mapping[str, str]], name: str, **style: str | float) -> None:
    values = _column_values(epochs, name)
    shown = ~np.isnan(values)
    mark = "." if shown.sum() <= 60 else ""
    axes.plot(np.arange(1, len(values) + 1)[shown], values[shown], marker=mark, **style)  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_stages(axes: Axes, epochs: Sequence[Mapping[str, str]]) -> None:
    """A line between stages, and their names on top where there are several."""
    names = [row.get("stage", "") for row in epochs]
    starts = [place for place in range(len(names)) if place == 0 or names[place] != names[place - 1]]
    if len(starts) < 2:
        return
    for start in starts:
        if start:
            axes.axvline(start + 0.5, color=GRAY, linewidth=0.8)
        axes.text(start + 0.7, 1.02, names[start], transform=axes.get_xaxis_transform(), fontsize=8)


def _column_names(epochs: Sequence[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for row in epochs for name in row))


def _column_values(epochs: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    """A column as numbers, NaN where an epoch has none."""
    return np.array([_parse_number(row.get(name)) for row in epochs], float)


def _parse_number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
