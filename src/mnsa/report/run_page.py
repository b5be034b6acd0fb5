"""The report of a run: one HTML file that needs no other file. A missing part names the command that creates it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mnsa.errors import RunError
from mnsa.io import atomic_write_text
from mnsa.metrics.scores import Evaluation, Score, format_score
from mnsa.report.gallery import DIFFERENCE_LEGEND, Gallery, galleries
from mnsa.report.rendering import (
    BLUE,
    GRAY,
    GREEN,
    LIGHT_BLUE,
    ORANGE,
    RED,
    add_legend_above,
    inline_svg,
    new_axes,
    render,
)
from mnsa.report.run_record import RunRecord, SplitScores, read_run_record
from mnsa.report.scores import (
    ConfusionSection,
    MaskTable,
    confusion_section,
    mask_table,
    reliability_figures,
    topology_table,
    uncalibrated_splits,
)
from mnsa.report.trait_agreement import TraitSection, trait_section
from mnsa.run_folder import RunFolder

_TERM_COLORS = (ORANGE, GREEN, RED, GRAY, LIGHT_BLUE)

_SCORE_LABELS = {"val_accuracy": "accuracy", "val_iou": "IoU", "val_cldice": "clDice", "val_score": "score"}

_TOML_ARRAY = re.compile(r"\[\n([^\[\]]*)\]")  # innermost arrays, an item on each line

_ID_TRANSLATION = str.maketrans({"/": "-", "_": "-", "+": "-"})


@dataclass(frozen=True, slots=True)
class SplitSection:
    """What the page shows of one evaluated split; None where there is nothing to show.

    element_id: unique on the page.
    """

    element_id: str
    scores: SplitScores
    confusion: ConfusionSection | None
    mask_table: MaskTable | None
    topology_table: MaskTable | None
    galleries: list[Gallery]
    traits: TraitSection | None


def write_run_report(run: RunFolder) -> None:
    """Write report.html into the run's folder, over an earlier one. Raises: MnsaError naming what is damaged."""
    text = render_run_page(read_run_record(run))
    try:
        atomic_write_text(run.report_file, text)
    except OSError as error:
        raise RunError(f"{run.report_file} can't be written: {error.strerror}. Fix that and report again.") from None


def render_run_page(run: RunRecord) -> str:
    """The page as text."""
    splits = [_split_section(split) for split in run.evaluated]
    return render(
        "run.html",
        title=f"Run {run.name}",
        run=run,
        splits=splits,
        tasks=_describe_tasks(run),
        headlines=_headline_scores(run.evaluated[0].evaluation) if run.evaluated else [],
        score_rows=[_score_row(split, score) for split in run.evaluated for score in split.evaluation.scores],
        losses=inline_svg("losses", lambda: plot_losses(run.epochs)) if run.epochs else "",
        validation_scores=inline_svg("scores", lambda: plot_scores(run.epochs)) if run.epochs else "",
        difference_legend=DIFFERENCE_LEGEND,
        reliability_figures=list(reliability_figures(run)),
        uncalibrated=uncalibrated_splits(run),
        config=_TOML_ARRAY.sub(_join_lines, run.config.strip()),
        postprocessing_rows=list(_postprocessing_rows(run.postprocessing)),
        provenance=list(_provenance_rows(run)),
    )


def plot_losses(epochs: Sequence[Mapping[str, str]]) -> Figure:
    """The training loss and its terms, epoch by epoch, on a logarithmic scale."""
    figure, axes = new_axes("epoch", "training loss")
    names = [name for name in _column_names(epochs) if name.startswith("loss_")]
    _plot_column(axes, epochs, "loss", label="loss", color=BLUE, linewidth=2)
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
    """Validation scores, epoch by epoch, and the best epoch of each stage."""
    figure, axes = new_axes("epoch", "validation")
    names = [name for name in _SCORE_LABELS if name in _column_names(epochs)]
    if len(names) == 2 and "val_betti0_error" not in _column_names(epochs):
        names = names[:1]  # the score is the same
    for name, color in zip(names, (BLUE, ORANGE, GREEN, GRAY), strict=False):
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


def _split_section(split: SplitScores) -> SplitSection:
    element_id = split.key.translate(_ID_TRANSLATION)
    return SplitSection(
        element_id,
        split,
        confusion_section(split.evaluation, f"{element_id}-confusion"),
        mask_table(split.evaluation),
        topology_table(split.evaluation),
        galleries(split),
        trait_section(split.rows, element_id) if split.evaluation.mask_classes else None,
    )


def _describe_tasks(run: RunRecord) -> str:
    classes, masks = run.spec.get("classes", ()), run.spec.get("mask_classes", ())
    tasks = [f"classifies {len(classes)} classes"] if classes else []
    return " and ".join([*tasks, *([f"segments {', '.join(masks)}"] if masks else [])])


def _headline_scores(evaluation: Evaluation) -> list[Score]:
    """The scores of the tiles; with several mask classes the first one is the background, which has none."""
    masks = evaluation.mask_classes
    background = masks[0] if len(masks) > 1 else None
    return [score for score in evaluation.scores if score.headline and score.mask_class != background]


def _score_row(split: SplitScores, score: Score) -> tuple[str, ...]:
    size = split.evaluation.sizes[score.group]
    drawn = size.drawn_text if score.interval else ""
    value, interval = format_score(score.value, score.unit), score.interval_text
    return split.title, score.title, value, interval, drawn, str(size.images)


def _postprocessing_rows(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    scores = chosen.get("scores", {})
    for mask_class, before in scores.get("before", {}).items():
        after = scores.get("after", {}).get(mask_class, {})
        for name, value in before.items():
            chosen_value = f"{after[name]:.3f}" if name in after else ""
            yield mask_class, name.replace("_", " "), f"{value:.3f}", chosen_value


def _provenance_rows(run: RunRecord) -> Iterator[tuple[str, str]]:
    for name, value in run.provenance.items():
        if name == "command":
            yield name, " ".join(str(word) for word in value)
        elif name == "versions":
            yield from ((f"version of {package}", str(version)) for package, version in dict(value).items())
        else:
            yield name.replace("_", " "), str(value)


def _plot_column(axes: Axes, epochs: Sequence[Mapping[str, str]], name: str, **style: str | float) -> None:
    values = _column_values(epochs, name)
    shown = ~np.isnan(values)
    mark = "." if shown.sum() <= 60 else ""
    axes.plot(np.arange(1, len(values) + 1)[shown], values[shown], marker=mark, **style)  # type: ignore[arg-type]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_stages(axes: Axes, epochs: Sequence[Mapping[str, str]]) -> None:
    """A line between stages, and their names on top when there are several."""
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
    """A column as numbers; NaN where an epoch has none."""
    return np.array([_parse_number(row.get(name)) for row in epochs], float)


def _parse_number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _join_lines(array: re.Match[str]) -> str:
    return f"[{' '.join(item.strip() for item in array[1].splitlines()).strip().rstrip(',')}]"
