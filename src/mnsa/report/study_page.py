"""A study as one HTML file that needs nothing else: its figures, its winner and the rivals with what each costs."""

import io
from collections.abc import Iterable, Mapping
from html import escape

from matplotlib.figure import Figure

from mnsa.report.page import page, picture
from mnsa.report.study_figures import study_figures
from mnsa.run_folder import write_text
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord

DPI = 110
RIVALS = 10
CAPTIONS = {
    "history": "Trial after trial.",
    "front": "What IoU costs: on the front, no other trial is better without costing more.",
    "importances": "What it takes to be among the best quarter (PED-ANOVA): each choice's share.",
    "parallel": "What the trials drew: a line per complete trial, the darker the better.",
    "slices": "IoU by each choice alone.",
    "curves": "Epoch by epoch: grey lines end where a trial was stopped.",
}
COLUMNS = ("trial", "validation IoU", "GMACs", "parameters, M", "latency, ms", "peak memory, MiB", "seconds", "drawn")


def write_study_report(folder: StudyFolder, study: StudyRecord) -> None:
    """Write report/*.png and report.html into the study's folder, over those of an earlier report."""
    images = {name: _png(figure) for name, figure in study_figures(study).items()}
    folder.figures_folder.mkdir(exist_ok=True)
    for name, image in images.items():
        (folder.figures_folder / f"{name}.png").write_bytes(image)
    write_text(folder.report_file, study_page(study, images))


def study_page(study: StudyRecord, images: Mapping[str, bytes]) -> str:
    """The page as text; images: PNG files by the name of their figure."""
    body = [
        f"<p>{escape(_summary(study))}</p>",
        f'<div class="wide">{_table(study)}</div>',
        *(picture(images[kind], "image/png", CAPTIONS[kind]) for kind in CAPTIONS if kind in images),
        _failures(study),
    ]
    return page(f"Study {study.name}", body)


def _summary(study: StudyRecord) -> str:
    settled = {trial.index for trial in study.of_state("complete", "pruned")}
    counts = ", ".join(f"{len(study.of_state(state))} {state}" for state in ("complete", "pruned", "failed"))
    height, width = study.size
    return (
        f"{len(settled)} of {study.budget} trials have a result (attempts: {counts}); sampler {study.sampler}, pruner "
        f"{study.pruner}. Costs are for one image of {height} x {width} px. Each IoU is that of one training on "
        "validation, and the best of many is lucky too: expect less of another training, and of test data."
    )


def _table(study: StudyRecord) -> str:
    """The winner, then the rivals by IoU."""
    complete = sorted(study.of_state("complete"), key=lambda trial: -(trial.iou or 0.0))
    picked = [trial for trial in complete if trial.number == study.picked]
    rivals = [trial for trial in complete if trial.number != study.picked][:RIVALS]
    if not complete:
        return "<p>No trial is complete yet.</p>"
    head = "".join(f"<th{_kind(name)}>{name}</th>" for name in COLUMNS)
    rows = "".join(_row(trial, study) for trial in [*picked, *rivals])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(trial: TrialRecord, study: StudyRecord) -> str:
    drawn = ", ".join(
        f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in trial.point.items()
    )
    is_picked = trial.number == study.picked
    mark = f"picked: {study.picked_as}" if is_picked else "on the front" if trial.number in study.front else ""
    cells = (
        f"{trial.number} {f'({mark})' if mark else ''}",
        _number(trial.iou, 1, 4),
        _number(trial.macs, 1e9, 3),
        _number(trial.parameters, 1e6, 2),
        _number(trial.latency_ms, 1, 1),
        _number(trial.peak_memory_mib, 1, 0),
        _number(trial.seconds, 1, 0),
        drawn,
    )
    text = "".join(f"<td{_kind(name)}>{escape(cell)}</td>" for name, cell in zip(COLUMNS, cells, strict=True))
    return f'<tr class="picked">{text}</tr>' if is_picked else f"<tr>{text}</tr>"


def _kind(column: str) -> str:
    return ' class="text long"' if column == "drawn" else ""


def _number(value: float | None, unit: float, digits: int) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"


def _failures(study: StudyRecord) -> str:
    failed = study.of_state("failed")
    items: Iterable[str] = (f"<li>trial {trial.number}: {escape(trial.reason)}</li>" for trial in failed)
    return f"<h2>Failed attempts</h2><ul>{''.join(items)}</ul>" if failed else ""


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    return data.getvalue()
