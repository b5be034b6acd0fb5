"""The sections of an evaluated split: confusion matrix, scores per class, worst and best images, traits, calibration.

K classes; in a confusion matrix rows are true classes and columns are predicted classes.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from mnsa.inference.calibration_file import Calibration
from mnsa.metrics.calibration import ReliabilityBin
from mnsa.metrics.per_image import worst_and_best
from mnsa.report.html_page import format_score, html_table, image_figure, missing_note, svg_figure
from mnsa.report.plotting import inline_svg
from mnsa.report.run_figures import MAX_NAMED_CLASSES, plot_confusion_matrix, plot_reliability
from mnsa.report.run_record import RunRecord, SplitScores
from mnsa.report.trait_figures import compute_agreement, plot_by_class, plot_true_vs_predicted, read_trait_pairs
from mnsa.visualize.palette import CORRECT_COLOR, FALSE_POSITIVE_COLOR, MISSED_COLOR, WRONG_CLASS_COLOR


class ClassScore(NamedTuple):
    """One class; None: nothing to score it by. images: those that are of it; predicted: those that were called so."""

    name: str
    images: int
    predicted: int
    recall: float | None
    precision: float | None
    f1: float | None
    mostly: str  # what its images are taken for most often, when wrong


class ConfusedPair(NamedTuple):
    """Images of class `true` that were called `predicted`; share of that class."""

    true: str
    predicted: str
    images: int
    share: float


def class_scores(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[ClassScore]:
    """Recall, precision and F1 of each class, the worst F1 first; classes without an image last."""
    counts = np.asarray(confusion)
    images, predicted, right = counts.sum(1), counts.sum(0), counts.diagonal()
    wrong = counts - np.diag(right)
    scores = [
        ClassScore(
            name, int(images[k]), int(predicted[k]), _fraction(right[k], images[k]), _fraction(right[k], predicted[k]),
            _fraction(2 * right[k], images[k] + predicted[k]), names[wrong[k].argmax()] if wrong[k].any() else "",
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    return sorted(scores, key=lambda one: (one.images == 0, 0.0 if one.f1 is None else one.f1, one.recall or 0.0))


def most_confused(names: Sequence[str], confusion: Sequence[Sequence[int]], count: int) -> list[ConfusedPair]:
    """The pairs of classes that are mistaken most often, at most `count` of them."""
    counts = np.asarray(confusion)
    wrong = counts - np.diag(counts.diagonal())
    pairs = [(int(true), int(predicted)) for true, predicted in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-wrong[pair], -wrong[pair] / counts[pair[0]].sum(), pair))
    return [
        ConfusedPair(names[t], names[s], int(wrong[t, s]), float(wrong[t, s] / counts[t].sum()))
        for t, s in pairs[:count]
    ]


def _fraction(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


MASK_PANELS = {"photo": "image", "truth": "true mask", "predicted": "predicted mask", "difference": "difference"}

CLASS_PANELS = {
    "photo": "image",
    "attention": "attention",
    "grad_cam": "Grad-CAM of the class predicted",
    "grad_cam_true": "Grad-CAM of the true class",
}

_DIFFERENCE_LEGEND = (
    (CORRECT_COLOR, "found"),
    (MISSED_COLOR, "missed"),
    (FALSE_POSITIVE_COLOR, "invented"),
    (WRONG_CLASS_COLOR, "another class"),
)


def mask_gallery(split: SplitScores) -> Iterator[str]:
    """Images by IoU, the mean over the mask classes without background."""
    keys = "".join(
        f'<span class="key" style="background:rgb{color}"></span>{words}' for color, words in _DIFFERENCE_LEGEND
    )
    yield f'<p class="soft">Outlines on the image; in the difference: {keys}.</p>'
    for title, places in _worst_and_best(split, "iou", ("Worst masks", "Best masks")):
        yield f"<h3>{title}</h3>"
        for place in places:
            row = split.rows[place]
            yield _image_card(split, place, f"IoU {float(row['iou']):.3f}", row.get("label", ""), MASK_PANELS)


def class_gallery(split: SplitScores) -> Iterator[str]:
    """Images by the probability of their true class."""
    yield (
        '<p class="soft">Attention weighs the deepest features by place, from the least (dark) to the most (light) of '
        "this image. Grad-CAM shows what speaks for a class, from nothing (dark) to the most (light) of this image.</p>"
    )
    for title, places in _worst_and_best(split, "true_probability", ("Worst classified", "Best classified")):
        yield f"<h3>{title}</h3>"
        for place in places:
            row = split.rows[place]
            predicted = f"predicted {row['predicted']} ({float(row['probability']):.0%})"
            words = (
                predicted
                if row["predicted"] == row["label"]
                else f"{predicted}, true class {float(row['true_probability']):.0%}"
            )
            yield _image_card(split, place, words, row["label"], CLASS_PANELS)


def _worst_and_best(split: SplitScores, column: str, titles: tuple[str, str]) -> Iterator[tuple[str, Sequence[int]]]:
    """The worst and the best by a column of which pictures were kept."""
    found = worst_and_best([float(row[column]) if row.get(column) else None for row in split.rows])
    return ((title, places) for title, places in zip(titles, found, strict=True) if places)


def _image_card(split: SplitScores, place: int, words: str, label: str, panels: dict[str, str]) -> str:
    row = split.rows[place]
    name = f"{escape(label)} <span>{escape(row['image'])}</span>" if label else f"<span>{escape(row['image'])}</span>"
    files = {panel: split.folder.image_path(place, panel) for panel in panels}
    shown = "".join(
        image_figure(file.read_bytes(), "image/jpeg", panels[panel], alt=f"{row['image']}: {panels[panel]}")
        for panel, file in files.items()
        if file.is_file()
    )
    return f'<div class="leaf"><h4>{name}: {escape(words)}</h4><div class="panels">{shown}</div></div>'


MAX_CONFUSED_PAIRS = 15

_ID_TRANSLATION = str.maketrans({"/": "-", "_": "-"})


def split_sections(run: RunRecord, split: SplitScores) -> Iterator[str]:
    """Confusion matrix, classes, mask classes, the worst and the best images, and traits."""
    scores = split.scores
    yield f'<p class="soft">{escape(scores.get("dataset", ""))}, {scores["images"]} images, at their own size.</p>'
    if classes := scores.get("classification"):
        yield from _confusion_section(split, classes)
    if masks := scores.get("segmentation"):
        yield from _mask_class_table(masks)
    if not split.rows:
        yield missing_note("Worst and best images: an earlier version kept none. They come with:", split.command(run))
        return
    if any(row.get("iou") for row in split.rows):
        yield from mask_gallery(split)
    if any(row.get("true_probability") for row in split.rows):
        yield from class_gallery(split)
    if scores.get("segmentation"):
        yield from _trait_section(run, split)


def calibration_section(run: RunRecord) -> Iterator[str]:
    """Reliability diagrams: of each evaluated split, and of validation before and after the temperature."""
    if run.card and not run.card["classes"]:
        yield "<p>This network says no classes, so there is nothing to be sure of.</p>"
        return
    found = run.calibration
    yield f"<p>{escape(_calibration_text(found))}</p>" if found else _missing_calibration(run)
    yield '<div class="figures">'
    for split in run.evaluated:
        classes = split.scores.get("classification", {})
        if "reliability" in classes:
            state = "calibrated" if classes["calibrated"] else "not calibrated"
            error = f"calibration error {format_score(classes['ece'])}, {classes['images']} images"
            threshold = found.threshold if found and classes["calibrated"] else None
            caption = f"Split {split.title}, {state}: {error}."
            yield _reliability_figure(f"{split.key}-bars", classes["reliability"], threshold, caption)
    for when, words in (("before", "before the temperature"), ("after", "after it, on the images it was fitted to")):
        if found:
            caption = f"Split {found.split}, {words}: calibration error {format_score(found.ece[when])}, {found.images} images."
            bars = [bar._asdict() for bar in found.reliability[when]]
            yield _reliability_figure(
                f"calibration-{when}", bars, found.threshold if when == "after" else None, caption
            )
    yield "</div>"
    yield from _outdated_notes(run)


def _confusion_section(split: SplitScores, classes: dict[str, Any]) -> Iterator[str]:
    names, counts = classes["classes"], classes["confusion"]
    yield '<div class="figures"><div><h3>Confusion matrix</h3>'
    caption = (
        "Rows: true class; columns: class predicted; right in blue, wrong in orange, the deeper the greater the share of "
        f"the row. {classes['images']} images."
    )
    if len(names) > MAX_NAMED_CLASSES:
        caption += f" {len(names)} classes in the data set's order; the most confused pairs have a table."
    figure = svg_figure(
        inline_svg(f"{_element_id(split)}-confusion", lambda: plot_confusion_matrix(names, counts)), caption
    )
    yield f"{figure}</div>"
    if pairs := most_confused(names, counts, MAX_CONFUSED_PAIRS):
        rows = [(one.true, one.predicted, str(one.images), f"{one.share:.0%}") for one in pairs]
        shown = html_table(("true class", "predicted", "images", "of the class"), rows, text_columns=(0, 1))
        yield f"<div><h3>Most confused pairs</h3>{shown}</div>"
    yield "</div>"
    yield "<h3>Classes, the worst first</h3>"
    rows_of_classes = [
        (
            one.name,
            str(one.images),
            str(one.predicted),
            format_score(one.recall),
            format_score(one.precision),
            format_score(one.f1),
            one.mostly,
        )
        for one in class_scores(names, counts)
    ]
    head = ("class", "images", "called so", "recall", "precision", "F1", "when wrong, mostly")
    yield html_table(head, rows_of_classes, text_columns=(0, 6))


def _mask_class_table(masks: dict[str, Any]) -> Iterator[str]:
    yield "<h3>Mask classes</h3>"
    head = ("mask class", "IoU", "95 % interval", "Dice", "IoU per image", "Dice per image", "images without any")
    rows = [
        (
            name, format_score(one["iou"]), " to ".join(map(format_score, one["iou_interval"] or ())), format_score(one["dice"]),
            format_score(one["iou_per_image"]), format_score(one["dice_per_image"]), str(one["images_empty"]),
        )
        for name, one in sorted(masks["classes"].items(), key=_iou_sort_key)
    ]  # fmt: skip
    yield html_table(head, rows)


def _iou_sort_key(item: tuple[str, dict[str, Any]]) -> tuple[bool, float]:
    return item[1]["iou"] is None, item[1]["iou"] or 0.0


def _trait_section(run: RunRecord, split: SplitScores) -> Iterator[str]:
    yield "<h3>Traits</h3>"
    traits = read_trait_pairs(split.rows)
    if not traits:
        yield missing_note("The masks weren't measured. Traits come with:", split.command(run, "--traits"))
        return
    yield f"<p class='soft'>{_TRAIT_NOTE} The others are in {escape(split.folder.table.name)}.</p>"
    head = ("trait", "images", "true, mean", "predicted, mean", "bias", "RMSE", "correlation")
    rows = []
    for trait in traits:
        found = compute_agreement(trait)
        numbers = (f"{value:.4g}" for value in found[1:5])
        rows.append((trait.axis, str(found.images), *numbers, "none" if found.r is None else f"{found.r:.2f}"))
    yield html_table(head, rows)
    yield '<div class="figures">'
    for place, trait in enumerate(traits):
        name = f"{_element_id(split)}-trait{place}"
        if any(trait.labels):
            svg = inline_svg(f"{name}-classes", lambda trait=trait: plot_by_class(trait))  # type: ignore[misc]
            yield svg_figure(svg, f"{trait.axis}, by class: a dot per image, a bar at the median.")
        svg = inline_svg(name, lambda trait=trait: plot_true_vs_predicted(trait))  # type: ignore[misc]
        yield svg_figure(svg, f"{trait.axis}, image by image.")
    yield "</div>"


_TRAIT_NOTE = "Measured alike on true and predicted masks; bias: predicted minus true."


def _reliability_figure(name: str, bars: list[dict[str, Any]], threshold: float | None, caption: str) -> str:
    found = [ReliabilityBin(**bar) for bar in bars]
    return svg_figure(
        inline_svg(name.translate(_ID_TRANSLATION), lambda: plot_reliability(found, threshold=threshold)), caption
    )


def _calibration_text(found: Calibration) -> str:
    before, after = found.ece["before"], found.ece["after"]
    fitted = (
        f"Temperature {found.temperature:.3f}, found on {found.images} images of split {found.split}: "
        f"calibration error {before:.3f} before, {after:.3f} after."
        if found.fitted
        else f"Every answer on split {found.split} is right, so the temperature stays 1."
    )
    if found.threshold is None:
        return f"{fitted} No threshold reaches the target of {found.target:.0%} right answers."
    return (
        f"{fitted} Below a confidence of {found.threshold:.4f} an answer is unknown: {found.accepted} of "
        f"{found.images} images reach it, {found.accepted_correct} of them answered right (target {found.target:.0%})."
    )


def _missing_calibration(run: RunRecord) -> str:
    words = f"{run.stale_calibration} " if run.stale_calibration else "The probabilities aren't calibrated. "
    return missing_note(words, run.command("calibrate"))


def _outdated_notes(run: RunRecord) -> Iterator[str]:
    """What was scored before it was calibrated, or before bars were kept."""
    for split in run.evaluated:
        classes = split.scores.get("classification")
        if classes and "reliability" not in classes:
            yield missing_note(
                f"Split {split.title}: an earlier version kept no bars. They come with:", split.command(run)
            )
        elif classes and run.calibration and not classes["calibrated"] and split.head == "network":
            yield missing_note(f"Split {split.title} was scored before the calibration. Anew:", split.command(run))


def _element_id(split: SplitScores) -> str:
    return split.key.translate(_ID_TRANSLATION)
