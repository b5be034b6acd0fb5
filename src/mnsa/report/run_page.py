"""The report of a run: one HTML file that needs no other file. A missing part names the command that makes it."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

from mnsa.errors import RunError
from mnsa.io import atomic_write_text
from mnsa.report.html_page import format_interval, format_score, html_table, missing_note, render_page, svg_figure
from mnsa.report.plotting import inline_svg
from mnsa.report.run_figures import plot_losses, plot_scores
from mnsa.report.run_record import RunRecord, SplitScores, read_run_record
from mnsa.report.split_sections import calibration_section, split_sections
from mnsa.run_folder import RunFolder

_SUMMARY_HEADER = ("split", "score", "value", "95 % interval", "images")


def summary_section(run: RunRecord) -> Iterator[str]:
    """What the network is, tiles with the first evaluated split's scores, and a table of all of them."""
    yield f"<p>{escape(_network_text(run))}</p>"
    if not run.trained:
        yield missing_note("There is no finished network yet.", f"mnsa train --resume {run.run.path}")
    if not run.evaluated:
        yield missing_note("It hasn't been scored yet.", run.command("evaluate"))
        return
    first = run.evaluated[0]
    careful = {
        "test": "Training, the choice of an epoch and calibration open no test images.",
        "val": "Validation chose the epoch, so these scores flatter: expect less of test images.",
        "train": "The network has learned these very images, so these scores flatter.",
    }
    count = first.scores["images"]
    yield f"<p>Scores on split <b>{escape(first.title)}</b>, {count} images. {careful.get(first.split, '')}</p>"
    yield f'<div class="tiles">{"".join(_score_tiles(first.scores))}</div>'
    if first.split != "test":
        yield missing_note("The test images haven't been scored.", run.command("evaluate"))
    yield html_table(
        _SUMMARY_HEADER, [row for split in run.evaluated for row in _summary_rows(split)], text_columns=(0, 1)
    )


def _network_text(run: RunRecord) -> str:
    if not run.card:
        return "A run that has no network yet."
    classes, masks, model = run.card["classes"], run.card["mask_classes"], run.card["model"]
    tasks = [f"tells {len(classes)} classes apart"] if classes else []
    tasks += [f"finds {', '.join(masks)} pixel by pixel"] if masks else []
    height, width = run.card["data"]["size"]
    return (
        f"A network that {' and '.join(tasks)}: backbone {model['backbone']}, attention {model['attention']}, "
        f"trained on images of {height} x {width} px."
    )


def _score_tiles(scores: dict[str, Any]) -> Iterator[str]:
    if classes := scores.get("classification"):
        yield _score_tile("accuracy", classes["accuracy"], classes["accuracy_interval"])
        yield _score_tile("macro F1", classes["macro_f1"], None)
        if "ece" in classes:
            yield _score_tile("calibration error", classes["ece"], None)
    masks = list(scores.get("segmentation", {}).get("classes", {}).items())
    for name, one in masks if len(masks) == 1 else masks[1:]:  # of several, the first is the background
        yield _score_tile(f"IoU of {name}", one["iou"], one["iou_interval"])


def _score_tile(name: str, value: float | None, bounds: list[float] | None) -> str:
    sure = f"95 %: {format_interval(bounds)}" if bounds else ""
    return f"<div><span>{escape(name)}</span><b>{format_score(value)}</b><span>{sure}</span></div>"


def _summary_rows(split: SplitScores) -> Iterator[tuple[str, ...]]:
    if classes := split.scores.get("classification"):
        images, sure = str(classes["images"]), format_interval(classes["accuracy_interval"])
        yield split.title, "accuracy", format_score(classes["accuracy"]), sure, images
        yield split.title, "balanced accuracy", format_score(classes["balanced_accuracy"]), "", images
        yield split.title, "macro F1", format_score(classes["macro_f1"]), "", images
        yield split.title, "top-5 accuracy", format_score(classes["top5_accuracy"]), "", images
    masks = split.scores.get("segmentation", {"classes": {}})
    for name, one in masks["classes"].items():
        images, sure = str(masks["images"]), format_interval(one["iou_interval"])
        yield split.title, f"IoU of {name}", format_score(one["iou"]), sure, images
        yield split.title, f"IoU of {name}, mean of images", format_score(one["iou_per_image"]), "", images
        yield split.title, f"Dice of {name}", format_score(one["dice"]), "", images


_TOML_ARRAY = re.compile(r"\[\n([^\[\]]*)\]")  # innermost ones, an item on each line


def write_run_report(run: RunFolder) -> None:
    """Write report.html into the run's folder, over an earlier one. Raises: MnsaError naming what is damaged."""
    text = render_run_page(read_run_record(run))
    try:
        atomic_write_text(run.report_file, text)
    except OSError as error:
        raise RunError(f"{run.report_file} can't be written: {error.strerror}. Mend that and report again.") from None


def render_run_page(run: RunRecord) -> str:
    """The page as text."""
    sections = {
        "Summary": list(summary_section(run)),
        "Learning curves": list(_learning_curves(run)),
        **{f"Split {split.title}": list(split_sections(run, split)) for split in run.evaluated},
        "Calibration": list(calibration_section(run)),
        "Config": [f"<pre>{escape(_TOML_ARRAY.sub(_join_lines, run.config.strip()))}</pre>"],
        "Provenance": [_provenance_table(run)],
    }
    links = "".join(f'<a href="#part{n}">{escape(title)}</a>' for n, title in enumerate(sections))
    body = [f"<nav>{links}</nav>"]
    for number, (title, parts) in enumerate(sections.items()):
        body += [f'<h2 id="part{number}">{escape(title)}</h2>', *parts]
    return render_page(f"Run {run.name}", body)


def _learning_curves(run: RunRecord) -> Iterator[str]:
    if not run.epochs:
        came_from = run.provenance.get("checkpoint")
        yield (
            f"<p>No epochs: the network was imported from {escape(str(came_from))}.</p>"
            if came_from
            else missing_note("No epoch is finished yet.", f"mnsa train --resume {run.run.path}")
        )
        return
    yield '<div class="figures">'
    yield svg_figure(
        inline_svg("losses", lambda: plot_losses(run.epochs)), "Training loss and its terms, on a logarithmic scale."
    )
    yield svg_figure(
        inline_svg("scores", lambda: plot_scores(run.epochs)),
        "Validation scores at the size that the network is shown. Dotted: the epoch that was kept, the best by score.",
    )
    yield "</div>"


def _provenance_table(run: RunRecord) -> str:
    facts = {name: value for name, value in run.provenance.items() if name != "versions"}
    facts["command"] = " ".join(str(word) for word in run.provenance.get("command", []))
    versions = {f"version of {name}": value for name, value in dict(run.provenance.get("versions", {})).items()}
    rows = [(name.replace("_", " "), str(value)) for name, value in {**facts, **versions}.items()]
    return html_table(("what", "value"), rows, text_columns=(0, 1)).replace("<table>", '<table class="pairs">')


def _join_lines(array: re.Match[str]) -> str:
    return f"[{' '.join(item.strip() for item in array[1].splitlines()).strip().rstrip(',')}]"
