"""The figures of a study: IoU by trial, cost, epoch and choice."""

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnsa.report.rendering import BLUE, GRAY, GREEN, LIGHT_BLUE, RED, add_legend_above, new_axes
from mnsa.study_folder import StudyRecord, TrialRecord

COST_UNITS = {"macs": ("multiply-adds, G", 1e9), "parameters": ("parameters, M", 1e6), "latency": ("latency, ms", 1.0)}

SLICE_COLUMNS = 5  # plots side by side

MAX_IMPORTANCES = 12  # that are shown

PAGE_WIDTH_IN = 10.2  # of figures that need the whole page; on a phone they scroll

_IOU_COLORS = LinearSegmentedColormap.from_list("iou", [to_rgba(BLUE, 0.15), to_rgba(BLUE, 1)])

MAX_AXIS_LABELS = 5  # an axis with more values has labels for the first and the last only


def study_plots(study: StudyRecord) -> dict[str, Callable[[], Figure]]:
    """Name -> function that draws a figure; those that need a complete trial are left out where there is none."""
    plots: dict[str, Callable[[StudyRecord], Figure]] = {"history": plot_history}
    complete = study.with_status("complete")
    if complete:
        plots["front"] = plot_pareto_front
    if study.method == "trials":
        plots["curves"] = plot_curves
    if study.importances:
        plots["importances"] = plot_importances
    if complete:
        plots |= {"slices": plot_slices, "parallel": plot_parallel_coordinates}
    return {name: partial(plot, study) for name, plot in plots.items()}


def plot_history(study: StudyRecord) -> Figure:
    """IoU of each trial, and the best so far."""
    figure, axes = new_axes("trial", "validation IoU")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    complete, pruned = study.with_status("complete"), study.with_status("pruned")
    _plot_points(axes, [(t.number, t.iou) for t in complete], color=BLUE, label="complete")
    _plot_points(axes, [(t.number, t.iou) for t in pruned if t.iou is not None], color=GRAY, label="pruned")
    failed = study.with_status("failed")
    if failed:
        at_the_bottom = axes.get_xaxis_transform()  # heights in 0..1 of the axes
        axes.plot(
            [t.number for t in failed], [0.02] * len(failed), "x", color=RED, label="failed", transform=at_the_bottom
        )
    if complete:
        best = [max(t.iou or 0.0 for t in complete[: end + 1]) for end in range(len(complete))]
        axes.step([t.number for t in complete], best, where="post", color=GREEN, label="best so far")
    add_legend_above(axes)
    return figure


def plot_pareto_front(study: StudyRecord) -> Figure:
    """IoU by cost, and the Pareto front: the trials that no other trial beats at the same cost."""
    name, unit = COST_UNITS[study.cost]
    figure, axes = new_axes(name, "validation IoU")
    retrained = [(t.cost(study.cost) / unit, t.retrained_iou) for t in study.trials if t.retrained_iou is not None]
    complete = study.with_status("complete")
    _plot_points(axes, [(t.cost(study.cost) / unit, t.iou) for t in complete], color=GRAY, label="complete")
    best = sorted((t for t in complete if t.number in study.front), key=lambda t: t.cost(study.cost))
    places = [(t.cost(study.cost) / unit, t.iou or 0.0) for t in best]
    axes.plot(*zip(*places, strict=True), "o-", color=BLUE, drawstyle="steps-post", label="Pareto front")
    for trial, place in zip(best, places, strict=True):
        axes.annotate(str(trial.number), place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    _plot_points(axes, retrained, color=RED, label="after its own training")
    _mark_selected(axes, study, [(t.number, place) for t, place in zip(best, places, strict=True)])
    add_legend_above(axes)
    return figure


def plot_importances(study: StudyRecord) -> Figure:
    """The importance of the choices for being among the best quarter of trials (PED-ANOVA), the highest on top."""
    names = sorted(study.importances, key=lambda name: study.importances[name])[-MAX_IMPORTANCES:]
    figure, axes = new_axes("share of the importance", "", height=1.0 + 0.26 * len(names))
    axes.barh(names, [study.importances[name] for name in names], color=BLUE)
    axes.margins(y=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def plot_parallel_coordinates(study: StudyRecord) -> Figure:
    """A line per complete trial through its choices; the stronger its color, the higher the IoU."""
    names, complete = _choice_names(study), study.with_status("complete")
    figure, axes = new_axes("", "", width=max(PAGE_WIDTH_IN, 0.75 * len(names)))
    scores = [t.iou or 0.0 for t in complete]
    color = Normalize(min(scores), max(*scores, min(scores) + 1e-9))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    for trial in sorted(complete, key=lambda t: t.iou or 0.0):
        heights = [_trial_position(study, name, trial) for name in names]
        axes.plot(range(len(names)), heights, color=_IOU_COLORS(color(trial.iou or 0.0)), linewidth=1.5)
    for place, name in enumerate(names):
        axes.axvline(place, color=GRAY, linewidth=0.8)
        values = _choice_values(study, name)
        for value in values if len(values) <= MAX_AXIS_LABELS else (values[0], values[-1]):
            axes.annotate(
                _short_text(value), (place, _axis_position(study, name, value)), xytext=(5, 0),
                textcoords="offset points", fontsize=8, va="center",
            )  # fmt: skip
    turned = len(names) > 10
    axes.set_xticks(range(len(names)), names, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks([])
    return figure


def plot_slices(study: StudyRecord) -> Figure:
    """IoU by each choice alone."""
    names = _choice_names(study)
    rows = -(-len(names) // SLICE_COLUMNS)
    figure = Figure(figsize=(PAGE_WIDTH_IN, 2.1 * rows), layout="constrained")
    grid = figure.subplots(rows, min(SLICE_COLUMNS, len(names)), squeeze=False, sharey=True).flatten()
    for axes, name in zip(grid, names, strict=False):
        values = _choice_values(study, name)
        trials = [t for t in study.with_status("complete") if name in t.point]
        axes.plot([values.index(t.point[name]) for t in trials], [t.iou for t in trials], "o", color=BLUE, alpha=0.7)
        axes.margins(x=0.2)
        shown = range(len(values)) if len(values) <= MAX_AXIS_LABELS else (0, len(values) - 1)
        axes.set_xticks(list(shown), [_short_text(values[place]) for place in shown], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(name, fontsize=9)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    figure.supylabel("validation IoU", fontsize=9)
    return figure


def plot_curves(study: StudyRecord) -> Figure:
    """Validation IoU of each trial, epoch by epoch, up to where the trial was stopped."""
    figure, axes = new_axes("epoch", "validation IoU")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for trial in study.trials:
        color = GREEN if trial.number == study.selected else LIGHT_BLUE if trial.state == "complete" else GRAY
        order = 2 + (trial.number == study.selected)
        axes.plot(range(1, len(trial.curve) + 1), trial.curve, ".-", color=color, linewidth=order - 1, zorder=order)
    if study.selected is not None:
        axes.plot([], [], color=GREEN, label=f"trial {study.selected}, selected")
    axes.plot([], [], color=LIGHT_BLUE, label="complete")
    axes.plot([], [], color=GRAY, label="pruned or failed")
    add_legend_above(axes)
    return figure


def _plot_points(axes: Axes, places: Sequence[tuple[float, float | None]], *, color: str, label: str) -> None:
    if places:
        axes.plot(*zip(*places, strict=True), "o", color=color, markersize=5, label=label)


def _mark_selected(axes: Axes, study: StudyRecord, places: Sequence[tuple[int, tuple[float, float]]]) -> None:
    for number, place in places:
        if number == study.selected:
            axes.plot(*place, "*", color=GREEN, markersize=16, label=f"selected ({study.selection_rule})")


def _choice_names(study: StudyRecord) -> list[str]:
    """The names of the choices, in the order of the search space."""
    return list(dict.fromkeys(name for trial in study.with_status("complete") for name in trial.point))


def _choice_values(study: StudyRecord, name: str) -> list[float | str]:
    """The values of a choice in complete trials: numbers in order, then words."""
    values = {trial.point[name] for trial in study.with_status("complete") if name in trial.point}
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _axis_position(study: StudyRecord, name: str, value: float | str) -> float:
    values = _choice_values(study, name)
    return values.index(value) / max(1, len(values) - 1)


def _trial_position(study: StudyRecord, name: str, trial: TrialRecord) -> float:
    return _axis_position(study, name, trial.point[name]) if name in trial.point else float("nan")


def _short_text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
