"""Reliability diagrams: of each evaluated split, and of validation before and after the temperature."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnsa.metrics.calibration import ReliabilityBin
from mnsa.metrics.scores import format_score
from mnsa.report.rendering import BLUE, GRAY, ORANGE, WIDTH_IN, add_legend_above, inline_svg
from mnsa.report.run_record import RunRecord, SplitScores


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
            yield _draw(f"reliability-split{number}", entry.reliability, threshold), caption
    for when, text in (("before", "before the temperature"), ("after", "after it, on the images it was fitted to")):
        if calibration:
            error = format_score(calibration.ece[when])
            caption = f"Split {calibration.split}, {text}: calibration error {error}, {calibration.images} images."
            threshold = calibration.threshold if when == "after" else None
            yield _draw(f"reliability-{when}", calibration.reliability[when], threshold), caption


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


def _draw(name: str, bars: Sequence[ReliabilityBin], threshold: float | None) -> Markup:
    return inline_svg(name, lambda: plot_reliability(bars, threshold=threshold))
