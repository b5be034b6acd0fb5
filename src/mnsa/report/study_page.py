"""The figures of a study: what was tried, what it scored, what that costs, and what it depends on."""

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnsa.report.canvas import BLUE, GREEN, GREY, RED, canvas, legend
from mnsa.study_folder import StudyRecord, TrialRecord

COST_UNITS = {"macs": ("multiply-adds, G", 1e9), "parameters": ("parameters, M", 1e6), "latency": ("latency, ms", 1.0)}
COLUMNS = 5  # small figures side by side
LABELS = 5  # values that an axis can name; of more it names the first and the last


def study_figures(study: StudyRecord) -> dict[str, Figure]:
    """Name -> figure; those that need a complete trial are left out where there is none."""
    figures = {"history": history(study), "curves": curves(study)}
    if study.of_state("complete"):
        figures |= {"front": front(study), "parallel": parallel(study), "slices": slices(study)}
    if study.importances:
        figures["importances"] = importances(study)
    return figures


def history(study: StudyRecord) -> Figure:
    """IoU of trial after trial, and the best so far."""
    figure, axes = canvas("trial", "validation IoU")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    complete, pruned = study.of_state("complete"), study.of_state("pruned")
    _dots(axes, [(t.number, t.iou) for t in complete], color=BLUE, label="complete")
    _dots(axes, [(t.number, t.iou) for t in pruned if t.iou is not None], color=GREY, label="pruned, at its last epoch")
    failed = study.of_state("failed")
    if failed:
        at_the_bottom = axes.get_xaxis_transform()  # heights in 0..1 of the axes
        axes.plot(
            [t.number for t in failed], [0.02] * len(failed), "x", color=RED, label="failed", transform=at_the_bottom
        )
    if complete:
        best = [max(t.iou or 0.0 for t in complete[: end + 1]) for end in range(len(complete))]
        axes.step([t.number for t in complete], best, where="post", color=GREEN, label="best so far")
    legend(axes)
    return figure


def front(study: StudyRecord) -> Figure:
    """IoU against cost: the trials that no other one beats at their price."""
    name, unit = COST_UNITS[study.cost]
    figure, axes = canvas(name, "validation IoU")
    complete = study.of_state("complete")
    _dots(axes, [(t.cost(study.cost) / unit, t.iou) for t in complete], color=GREY, label="complete")
    best = sorted((t for t in complete if t.number in study.front), key=lambda t: t.cost(study.cost))
    places = [(t.cost(study.cost) / unit, t.iou or 0.0) for t in best]
    axes.plot(*zip(*places, strict=True), "o-", color=BLUE, drawstyle="steps-post", label="Pareto front")
    for trial, place in zip(best, places, strict=True):
        axes.annotate(str(trial.number), place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    _mark_picked(axes, study, [(t.number, place) for t, place in zip(best, places, strict=True)])
    legend(axes)
    return figure


def importances(study: StudyRecord) -> Figure:
    """What it takes to be among the best quarter (PED-ANOVA): each choice's share of 1."""
    names = sorted(study.importances, key=lambda name: study.importances[name])
    figure, axes = canvas("share of importance for IoU", "", height=1.2 + 0.28 * len(names))
    axes.barh(names, [study.importances[name] for name in names], color=BLUE)
    return figure


def parallel(study: StudyRecord) -> Figure:
    """A line per complete trial through what it drew, the darker the better."""
    names, complete = _choices(study), study.of_state("complete")
    figure, axes = canvas("", "", width=max(7.0, 0.75 * len(names)))
    scores = [t.iou or 0.0 for t in complete]
    colour = Normalize(min(scores), max(*scores, min(scores) + 1e-9))
    for trial in sorted(complete, key=lambda t: t.iou or 0.0):
        heights = [_height(study, name, trial) for name in names]
        axes.plot(range(len(names)), heights, color=colormaps["YlGnBu"](colour(trial.iou or 0.0)), linewidth=1.5)
    for place, name in enumerate(names):
        values = _values(study, name)
        for value in values if len(values) <= LABELS else (values[0], values[-1]):
            axes.text(place, _place(study, name, value), f" {_short(value)}", fontsize=7, va="center")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks([])
    axes.set_title(f"IoU {min(scores):.3f} (light) to {max(scores):.3f} (dark)", fontsize=9)
    return figure


def slices(study: StudyRecord) -> Figure:
    """IoU by each choice on its own."""
    names = _choices(study)
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(2.1 * min(COLUMNS, len(names)) + 0.6, 2.1 * rows), layout="constrained")
    grid = figure.subplots(rows, min(COLUMNS, len(names)), squeeze=False, sharey=True).flatten()
    for axes, name in zip(grid, names, strict=False):
        values = _values(study, name)
        trials = [t for t in study.of_state("complete") if name in t.point]
        axes.plot([values.index(t.point[name]) for t in trials], [t.iou for t in trials], "o", color=BLUE, alpha=0.5)
        shown = range(len(values)) if len(values) <= LABELS else (0, len(values) - 1)
        axes.set_xticks(list(shown), [_short(values[place]) for place in shown], fontsize=7)
        axes.set_title(name, fontsize=9)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    figure.supylabel("validation IoU", fontsize=9)
    return figure


def curves(study: StudyRecord) -> Figure:
    """Validation IoU epoch by epoch: where trials were stopped, and the picked one among them."""
    figure, axes = canvas("epoch", "validation IoU")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for trial in study.trials:
        colour = BLUE if trial.number == study.picked else "#9ec1e6" if trial.state == "complete" else GREY
        order = 2 + (trial.number == study.picked)
        axes.plot(range(1, len(trial.curve) + 1), trial.curve, ".-", color=colour, linewidth=1, zorder=order)
    if study.picked is not None:
        axes.plot([], [], color=BLUE, label=f"trial {study.picked}, picked")
    axes.plot([], [], color="#9ec1e6", label="complete")
    axes.plot([], [], color=GREY, label="pruned or failed")
    legend(axes)
    return figure


def _dots(axes: Axes, places: Sequence[tuple[float, float | None]], *, color: str, label: str) -> None:
    if places:
        axes.plot(*zip(*places, strict=True), "o", color=color, markersize=5, label=label)


def _mark_picked(axes: Axes, study: StudyRecord, places: Sequence[tuple[int, tuple[float, float]]]) -> None:
    for number, place in places:
        if number == study.picked:
            axes.plot(*place, "*", color=GREEN, markersize=16, label=f"picked ({study.picked_as})")


def _choices(study: StudyRecord) -> list[str]:
    """What was drawn, in the order of the space; what never differed included."""
    return list(dict.fromkeys(name for trial in study.of_state("complete") for name in trial.point))


def _values(study: StudyRecord, name: str) -> list[float | str]:
    """The values that complete trials drew: numbers in order, then words."""
    values = {trial.point[name] for trial in study.of_state("complete") if name in trial.point}
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _place(study: StudyRecord, name: str, value: float | str) -> float:
    values = _values(study, name)
    return values.index(value) / max(1, len(values) - 1)


def _height(study: StudyRecord, name: str, trial: TrialRecord) -> float:
    return _place(study, name, trial.point[name]) if name in trial.point else float("nan")


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
