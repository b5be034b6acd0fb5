"""The report of a study: one HTML file with figures, the selected trial, and the best other trials with their costs."""

import io
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from mnsa.io import atomic_write_bytes, atomic_write_text
from mnsa.report.rendering import inline_svg, render
from mnsa.report.study_figures import study_plots
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, TrialStatus

DPI = 110

MAX_OTHER_TRIALS = 10

MIN_FOR_TAU = 3  # retrained networks

CAPTIONS = {
    "history": "IoU of each trial, and the best so far.",
    "front": "IoU by cost. A trial is on the front if no other one is better at the same or a lower cost.",
    "curves": "IoU by epoch. Gray lines end where a trial was stopped.",
    "importances": "How much each choice decides whether a trial is among the best quarter (PED-ANOVA). All sum to 1.",
    "slices": "IoU by the value of each choice. A dot per complete trial.",
    "parallel": "A line per complete trial through the values of its choices, the stronger its color, the "
    "higher its IoU: {lowest:.3f} to {highest:.3f}.",
}

WIDE_FIGURES = ("slices", "parallel")

TABLE_COLUMNS = (
    "trial",
    "validation IoU",
    "GMACs",
    "parameters, M",
    "latency, ms",
    "peak memory, MiB",
    "seconds",
    "IoU after its own training",
    "choices",
)


class TrialRow(NamedTuple):
    """A row of the table of trials, as text, in the order of its columns."""

    selected: bool
    cells: tuple[str, ...]


class Drawing(NamedTuple):
    """A figure of the page. wide: it takes the whole width."""

    svg: Markup
    caption: str
    wide: bool


def write_study_report(folder: StudyFolder, study: StudyRecord) -> None:
    """Write report/*.png and report.html into the folder of a study, over those of an earlier report."""
    folder.figures_folder.mkdir(exist_ok=True)
    for name, plot in study_plots(study).items():
        atomic_write_bytes(folder.figures_folder / f"{name}.png", _encode_png(plot()))
    atomic_write_text(folder.report_file, render_study_page(study))


def render_study_page(study: StudyRecord) -> str:
    """The page as text."""
    statuses: tuple[TrialStatus, ...] = ("complete", "pruned", "failed")
    scores = [trial.iou or 0.0 for trial in study.with_status("complete")]
    lowest, highest = min(scores, default=0.0), max(scores, default=0.0)
    columns, rows = _trial_table(study)
    return render(
        "study.html",
        title=f"Study {study.name}",
        study=study,
        finished=len({trial.index for trial in study.with_status("complete", "pruned")}),
        counts=", ".join(f"{len(study.with_status(status))} {status}" for status in statuses),
        columns=columns,
        choices=max((len(trial.point) for trial in study.trials), default=0),
        tau=_retrained_tau(study),
        trials=rows,
        tiles=_selected_tiles(study),
        drawings={
            name: Drawing(
                inline_svg(name, plot), CAPTIONS[name].format(lowest=lowest, highest=highest), name in WIDE_FIGURES
            )
            for name, plot in study_plots(study).items()
        },
    )


def _trial_table(study: StudyRecord) -> tuple[list[str], list[TrialRow]]:
    """The columns that have a value, and a row for each trial that is shown."""
    rows = [_trial_row(trial, study) for trial in _shown_trials(study)]
    filled = [place for place in range(len(TABLE_COLUMNS)) if any(row.cells[place] for row in rows)]
    shown = [row._replace(cells=tuple(row.cells[place] for place in filled)) for row in rows]
    return [TABLE_COLUMNS[place] for place in filled], shown


def _shown_trials(study: StudyRecord) -> list[TrialRecord]:
    """The selected trial, then the others by IoU, retrained slices first."""
    complete = sorted(study.with_status("complete"), key=lambda trial: -(trial.iou or 0.0))
    selected = [trial for trial in complete if trial.number == study.selected]
    others = [trial for trial in complete if trial.number != study.selected]
    retrained = [trial for trial in others if trial.retrained_iou is not None]
    others = [*retrained, *(trial for trial in others if trial.retrained_iou is None)][:MAX_OTHER_TRIALS]
    return [*selected, *others]


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
        _format_number(trial.retrained_iou, 1, 4),
        choices,
    )
    return TrialRow(selected, cells)


def _selected_tiles(study: StudyRecord) -> list[tuple[str, str, str]]:
    """Name, value and unit of what matters most of the selected trial; nothing if there is none."""
    trial = next((trial for trial in study.trials if trial.number == study.selected), None)
    if trial is None:
        return []
    rule = f"selected trial {trial.number} ({study.selection_rule})"
    tiles = [
        ("validation IoU", _format_number(trial.iou, 1, 3), rule),
        ("multiply-adds", _format_number(trial.macs, 1e9, 2), "billions, one image"),
        ("parameters", _format_number(trial.parameters, 1e6, 2), "millions"),
        ("latency", _format_number(trial.latency_ms, 1, 1), "ms, one image"),
    ]
    return [tile for tile in tiles if tile[1]]


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
