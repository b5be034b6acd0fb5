"""The report of a study: one HTML file with figures, the selected trial, and the best other trials with their costs."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnsa.io import atomic_write_bytes, atomic_write_text
from mnsa.report.rendering import BLUE, GRAY, GREEN, LIGHT_BLUE, RED, add_legend, data_uri, new_axes, render
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, TrialStatus

COST_UNITS = {"macs": ("multiply-adds, G", 1e9), "parameters": ("parameters, M", 1e6), "latency": ("latency, ms", 1.0)}

SLICE_COLUMNS = 5  # plots side by side

MAX_AXIS_LABELS = 5  # an axis with more values has labels for the first and the last only

DPI = 110

MAX_OTHER_TRIALS = 10

MIN_FOR_TAU = 3  # retrained networks

CAPTIONS = {
    "history": "IoU of each trial, and the best so far.",
    "front": "IoU by cost: no other trial is better than those on the front without a higher cost.",
    "importances": "Importance of each choice for being among the best quarter of trials (PED-ANOVA).",
    "parallel": "The choices of the trials: a line per complete trial; the darker, the higher the IoU.",
    "slices": "IoU by each choice alone.",
    "curves": "Validation IoU by epoch: gray lines end where a trial was stopped.",
}

TABLE_COLUMNS = (
    "trial",
    "validation IoU",
    "GMACs",
    "parameters, M",
    "latency, ms",
    "peak memory, MiB",
    "seconds",
    "choices",
)


class TrialRow(NamedTuple):
    """A row of the table of trials, as text, in the order of TABLE_COLUMNS."""

    selected: bool
    cells: tuple[str, ...]


def write_study_report(folder: StudyFolder, study: StudyRecord) -> None:
    """Write report/*.png and report.html into the folder of a study, over those of an earlier report."""
    images = {name: _encode_png(figure) for name, figure in plot_study(study).items()}
    folder.figures_folder.mkdir(exist_ok=True)
    for name, image in images.items():
        atomic_write_bytes(folder.figures_folder / f"{name}.png", image)
    atomic_write_text(folder.report_file, render_study_page(study, images))


def render_study_page(study: StudyRecord, images: Mapping[str, bytes]) -> str:
    """The page as text. images: PNG files by the name of their figure."""
    statuses: tuple[TrialStatus, ...] = ("complete", "pruned", "failed")
    return render(
        "study.html",
        title=f"Study {study.name}",
        study=study,
        finished=len({trial.index for trial in study.with_status("complete", "pruned")}),
        counts=", ".join(f"{len(study.with_status(status))} {status}" for status in statuses),
        columns=(*TABLE_COLUMNS[:-1], *_extra_columns(study), TABLE_COLUMNS[-1]),
        tau=_retrained_tau(study),
        trials=_trial_rows(study),
        images=[(data_uri(images[name], "image/png"), text) for name, text in CAPTIONS.items() if name in images],
    )


def plot_study(study: StudyRecord) -> dict[str, Figure]:
    """Name -> figure; those that need a complete trial are left out where there is none."""
    figures = {"history": plot_history(study)}
    if study.method == "trials":
        figures["curves"] = plot_curves(study)
    if study.with_status("complete"):
        figures |= {
            "front": plot_pareto_front(study),
            "parallel": plot_parallel_coordinates(study),
            "slices": plot_slices(study),
        }
    if study.importances:
        figures["importances"] = plot_importances(study)
    return figures


def plot_history(study: StudyRecord) -> Figure:
    """IoU of each trial, and the best so far."""
    figure, axes = new_axes("trial", "validation IoU")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    complete, pruned = study.with_status("complete"), study.with_status("pruned")
    _plot_points(axes, [(t.number, t.iou) for t in complete], color=BLUE, label="complete")
    _plot_points(
        axes, [(t.number, t.iou) for t in pruned if t.iou is not None], color=GRAY, label="pruned, at its last epoch"
    )
    failed = study.with_status("failed")
    if failed:
        at_the_bottom = axes.get_xaxis_transform()  # heights in 0..1 of the axes
        axes.plot(
            [t.number for t in failed], [0.02] * len(failed), "x", color=RED, label="failed", transform=at_the_bottom
        )
    if complete:
        best = [max(t.iou or 0.0 for t in complete[: end + 1]) for end in range(len(complete))]
        axes.step([t.number for t in complete], best, where="post", color=GREEN, label="best so far")
    add_legend(axes)
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
    add_legend(axes)
    return figure


def plot_importances(study: StudyRecord) -> Figure:
    """The importance of each choice for being among the best quarter of trials (PED-ANOVA); they sum to 1."""
    names = sorted(study.importances, key=lambda name: study.importances[name])
    figure, axes = new_axes("share of importance for IoU", "", height=1.2 + 0.28 * len(names))
    axes.barh(names, [study.importances[name] for name in names], color=BLUE)
    return figure


def plot_parallel_coordinates(study: StudyRecord) -> Figure:
    """A line per complete trial through its choices; the darker, the higher the IoU."""
    names, complete = _choice_names(study), study.with_status("complete")
    figure, axes = new_axes("", "", width=max(7.0, 0.75 * len(names)))
    scores = [t.iou or 0.0 for t in complete]
    color = Normalize(min(scores), max(*scores, min(scores) + 1e-9))
    for trial in sorted(complete, key=lambda t: t.iou or 0.0):
        heights = [_trial_position(study, name, trial) for name in names]
        axes.plot(range(len(names)), heights, color=colormaps["YlGnBu"](color(trial.iou or 0.0)), linewidth=1.5)
    for place, name in enumerate(names):
        values = _choice_values(study, name)
        for value in values if len(values) <= MAX_AXIS_LABELS else (values[0], values[-1]):
            axes.text(place, _axis_position(study, name, value), f" {_short_text(value)}", fontsize=7, va="center")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks([])
    axes.set_title(f"IoU {min(scores):.3f} (light) to {max(scores):.3f} (dark)", fontsize=9)
    return figure


def plot_slices(study: StudyRecord) -> Figure:
    """IoU by each choice alone."""
    names = _choice_names(study)
    rows = -(-len(names) // SLICE_COLUMNS)
    figure = Figure(figsize=(2.1 * min(SLICE_COLUMNS, len(names)) + 0.6, 2.1 * rows), layout="constrained")
    grid = figure.subplots(rows, min(SLICE_COLUMNS, len(names)), squeeze=False, sharey=True).flatten()
    for axes, name in zip(grid, names, strict=False):
        values = _choice_values(study, name)
        trials = [t for t in study.with_status("complete") if name in t.point]
        axes.plot([values.index(t.point[name]) for t in trials], [t.iou for t in trials], "o", color=BLUE, alpha=0.5)
        shown = range(len(values)) if len(values) <= MAX_AXIS_LABELS else (0, len(values) - 1)
        axes.set_xticks(list(shown), [_short_text(values[place]) for place in shown], fontsize=7)
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
        color = BLUE if trial.number == study.selected else LIGHT_BLUE if trial.state == "complete" else GRAY
        order = 2 + (trial.number == study.selected)
        axes.plot(range(1, len(trial.curve) + 1), trial.curve, ".-", color=color, linewidth=1, zorder=order)
    if study.selected is not None:
        axes.plot([], [], color=BLUE, label=f"trial {study.selected}, selected")
    axes.plot([], [], color=LIGHT_BLUE, label="complete")
    axes.plot([], [], color=GRAY, label="pruned or failed")
    add_legend(axes)
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


def _trial_rows(study: StudyRecord) -> list[TrialRow]:
    """The selected trial, then the others by IoU, retrained slices first."""
    complete = sorted(study.with_status("complete"), key=lambda trial: -(trial.iou or 0.0))
    selected = [trial for trial in complete if trial.number == study.selected]
    others = [trial for trial in complete if trial.number != study.selected]
    retrained = [trial for trial in others if trial.retrained_iou is not None]
    others = [*retrained, *(trial for trial in others if trial.retrained_iou is None)][:MAX_OTHER_TRIALS]
    return [_trial_row(trial, study) for trial in [*selected, *others]]


def _trial_row(trial: TrialRecord, study: StudyRecord) -> TrialRow:
    choices = ", ".join(
        f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in trial.point.items()
    )
    selected = trial.number == study.selected
    mark = f"selected: {study.selection_rule}" if selected else "on the front" if trial.number in study.front else ""
    cells = (
        f"{trial.number} ({mark})" if mark else str(trial.number),
        _format_number(trial.iou, 1, 4),
        _format_number(trial.macs, 1e9, 3),
        _format_number(trial.parameters, 1e6, 2),
        _format_number(trial.latency_ms, 1, 1),
        _format_number(trial.peak_memory_mib, 1, 0),
        _format_number(trial.seconds, 1, 0),
        *(_format_number(trial.retrained_iou, 1, 4) for _ in _extra_columns(study)),
        choices,
    )
    return TrialRow(selected, cells)


def _extra_columns(study: StudyRecord) -> tuple[str, ...]:
    return ("IoU after its own training",) if any(t.retrained_iou is not None for t in study.trials) else ()


def _retrained_tau(study: StudyRecord) -> str:
    """Describe how well the scores of slices rank them: Kendall's tau with those after training; empty for too few."""
    pairs = [(t.iou, t.retrained_iou) for t in study.with_status("complete") if t.retrained_iou is not None]
    if len(pairs) < MIN_FOR_TAU:
        return ""
    from scipy.stats import kendalltau  # noqa: PLC0415 - it looks for torch when it is imported

    return f"{kendalltau(*zip(*pairs, strict=True)).statistic:.2f} ({len(pairs)} networks)"


def _format_number(value: float | None, unit: float, digits: int) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"


def _encode_png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    return data.getvalue()
