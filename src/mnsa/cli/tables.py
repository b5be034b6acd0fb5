"""Scores as tables for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from mnsa.inference.postprocessing_file import FittedPostprocessing
from mnsa.metrics.scores import Evaluation, Score, format_score


def score_tables(evaluation: Evaluation, key: str) -> Iterator[Table]:
    """A table per task: a column per score, a row per mask class. key: of evaluation.json, such as `test`.

    That of the topology scores, which are many, has a row per score and a column per mask class.
    """
    title = Text(f"{evaluation.dataset}, split {key}, {evaluation.images} images")
    for group, size in evaluation.sizes.items():
        make = _topology_table if group == "topology" else _group_table
        table = make(evaluation.of_group(group), title, size.interval_text)
        if group == "segmentation" and (absent := evaluation.absent_text):
            table.caption = Text(f"{table.caption}. {absent}" if table.caption else absent)
        yield table


def head_table(validation: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """A row per class head: its accuracy and log-loss on validation."""
    table = Table(title=Text(title))
    table.add_column("head")
    for name in ("accuracy", "log-loss"):
        table.add_column(name, justify="right")
    for head, scores in validation.items():
        table.add_row(head, format_score(scores["accuracy"]), format_score(scores["log_loss"]))
    return table


def export_table(comparison: Mapping[str, Any], title: str) -> Table:
    """A row per number that compares an exported network with the eager one."""
    table = Table(title=Text(title))
    for name in ("", "eager", "exported"):
        table.add_column(name, justify="right" if name else "left")
    for kind, by_output in comparison["differences"].items():
        for name, difference in by_output.items():
            table.add_row(f"largest difference of {name}, {kind} images", "", f"{difference:.1e}")
    if comparison.get("labels"):
        table.add_row("equal labels", "", "{} of {}".format(*comparison["labels"]))
    if comparison.get("mask_iou") is not None:
        table.add_row("IoU of the two masks", "", format_score(comparison["mask_iou"]))
    scores = comparison.get("scores", {"eager": [], "exported": []})
    for eager, exported in zip(*(map(Score.from_dict, scores[which]) for which in ("eager", "exported")), strict=True):
        if eager.headline:
            values = (format_score(score.value, score.unit) for score in (eager, exported))
            table.add_row(Text(f"{eager.title}, validation"), *values)
    table.add_row("file, MB", *(f"{size / 1e6:.1f}" for size in comparison["bytes"].values()))
    return table


def postprocessing_table(fitted: FittedPostprocessing) -> Table:
    """A row per score of a mask class on validation images, with the threshold 0.5 and as chosen."""
    table = Table(title=f"masks, split {fitted.split}")
    for name in ("", "threshold 0.5", "chosen"):
        table.add_column(name, justify="right" if name else "left")
    for mask_class, before in fitted.scores["before"].items():
        after = fitted.scores["after"].get(mask_class, {})
        for name, value in before.items():
            table.add_row(
                Text(f"{name} of {mask_class}"), f"{value:.3f}", f"{after[name]:.3f}" if name in after else ""
            )
    return table


def _group_table(scores: list[Score], title: Text, interval_text: str) -> Table:
    with_interval = {score.name for score in scores if score.interval}
    labels = {score.name: score.label for score in scores}
    rows: dict[str, dict[str, str]] = {}
    for score in scores:
        rows.setdefault(score.mask_class, {})[score.name] = _format_cell(score)
    has_classes = any(rows)
    table = Table(title=title, caption=interval_text if with_interval else None)
    if has_classes:
        table.add_column("mask class")
    for name, label in labels.items():
        table.add_column(f"{label} (95 % interval)" if name in with_interval else label, justify="right")
    for mask_class, cells in rows.items():
        values = [cells.get(name, "") for name in labels]
        table.add_row(*([Text(mask_class)] if has_classes else []), *values)
    return table


def _topology_table(scores: list[Score], title: Text, interval_text: str) -> Table:
    labels = {score.name: score.label for score in scores}
    cells = {(score.name, score.mask_class): _format_cell(score) for score in scores}
    mask_classes = dict.fromkeys(score.mask_class for score in scores)
    table = Table(title=title, caption=interval_text)
    table.add_column("topology (95 % interval)" if any(score.interval for score in scores) else "topology")
    for mask_class in mask_classes:
        table.add_column(Text(mask_class), justify="right")
    for name, label in labels.items():
        table.add_row(label, *(cells[name, mask_class] for mask_class in mask_classes))
    return table


def _format_cell(score: Score) -> str:
    interval = f" ({score.interval_text})" if score.interval else ""
    return format_score(score.value, score.unit) + interval
