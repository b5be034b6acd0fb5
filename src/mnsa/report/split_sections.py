"""What one evaluated split has to show, and how sure the run is."""

from collections.abc import Iterator
from html import escape
from typing import Any

from mnsa.evaluation.calibration import Bin
from mnsa.inference.calibration_file import Calibration
from mnsa.report.canvas import inline_svg
from mnsa.report.class_scores import class_scores, most_confused
from mnsa.report.gallery import class_gallery, mask_gallery
from mnsa.report.page import drawing, missing, table
from mnsa.report.run_figures import NAMED, confusion_matrix, reliability_diagram
from mnsa.report.run_record import RunRecord, SplitScores
from mnsa.report.trait_figures import agreement, by_class, one_by_one, shown_traits
from mnsa.report.words import number

PAIRS = 15
_NAMES = str.maketrans({"/": "-", "_": "-"})


def split_sections(run: RunRecord, split: SplitScores) -> Iterator[str]:
    """Confusion matrix, classes, mask classes, the worst and the best images, and traits."""
    scores = split.scores
    yield f'<p class="soft">{escape(scores.get("dataset", ""))}, {scores["images"]} images, at their own size.</p>'
    if classes := scores.get("classification"):
        yield from _confusion(split, classes)
    if masks := scores.get("segmentation"):
        yield from _mask_classes(masks)
    if not split.rows:
        yield missing("Worst and best images: an earlier version kept none. They come with:", split.command(run))
        return
    if any(row.get("iou") for row in split.rows):
        yield from mask_gallery(split)
    if any(row.get("true_probability") for row in split.rows):
        yield from class_gallery(split)
    if scores.get("segmentation"):
        yield from _traits(run, split)


def calibration_section(run: RunRecord) -> Iterator[str]:
    """Reliability diagrams: of each evaluated split, and of validation before and after the temperature."""
    if run.card and not run.card["classes"]:
        yield "<p>This network says no classes, so there is nothing to be sure of.</p>"
        return
    found = run.calibration
    yield f"<p>{escape(_sureness(found))}</p>" if found else _uncalibrated(run)
    yield '<div class="figures">'
    for split in run.evaluated:
        classes = split.scores.get("classification", {})
        if "reliability" in classes:
            state = "calibrated" if classes["calibrated"] else "not calibrated"
            error = f"calibration error {number(classes['ece'])}, {classes['images']} images"
            threshold = found.threshold if found and classes["calibrated"] else None
            caption = f"Split {split.title}, {state}: {error}."
            yield _diagram(f"{split.key}-bars", classes["reliability"], threshold, caption)
    for when, words in (("before", "before the temperature"), ("after", "after it, on the images it was fitted to")):
        if found:
            caption = (
                f"Split {found.split}, {words}: calibration error {number(found.ece[when])}, {found.images} images."
            )
            bars = [bar._asdict() for bar in found.reliability[when]]
            yield _diagram(f"calibration-{when}", bars, found.threshold if when == "after" else None, caption)
    yield "</div>"
    yield from _stale(run)


def _confusion(split: SplitScores, classes: dict[str, Any]) -> Iterator[str]:
    names, counts = classes["classes"], classes["confusion"]
    yield '<div class="figures"><div><h3>Confusion matrix</h3>'
    caption = (
        "Rows: true class; columns: class said; right in blue, wrong in orange, the deeper the greater the share of "
        f"the row. {classes['images']} images."
    )
    if len(names) > NAMED:
        caption += f" {len(names)} classes in the data set's order; the most confused pairs have a table."
    figure = drawing(inline_svg(f"{_id(split)}-confusion", lambda: confusion_matrix(names, counts)), caption)
    yield f"{figure}</div>"
    if pairs := most_confused(names, counts, PAIRS):
        rows = [(one.true, one.said, str(one.images), f"{one.share:.0%}") for one in pairs]
        shown = table(("true class", "said", "images", "of the class"), rows, text_columns=(0, 1))
        yield f"<div><h3>Most confused pairs</h3>{shown}</div>"
    yield "</div>"
    yield "<h3>Classes, the worst first</h3>"
    rows_of_classes = [
        (
            one.name,
            str(one.images),
            str(one.said),
            number(one.recall),
            number(one.precision),
            number(one.f1),
            one.mostly,
        )
        for one in class_scores(names, counts)
    ]
    head = ("class", "images", "called so", "recall", "precision", "F1", "when wrong, mostly")
    yield table(head, rows_of_classes, text_columns=(0, 6))


def _mask_classes(masks: dict[str, Any]) -> Iterator[str]:
    yield "<h3>Mask classes</h3>"
    head = ("mask class", "IoU", "95 % interval", "Dice", "IoU per image", "Dice per image", "images without any")
    rows = [
        (
            name, number(one["iou"]), " to ".join(map(number, one["iou_interval"] or ())), number(one["dice"]),
            number(one["iou_per_image"]), number(one["dice_per_image"]), str(one["images_empty"]),
        )
        for name, one in sorted(masks["classes"].items(), key=_by_iou)
    ]  # fmt: skip
    yield table(head, rows)


def _by_iou(item: tuple[str, dict[str, Any]]) -> tuple[bool, float]:
    return item[1]["iou"] is None, item[1]["iou"] or 0.0


def _traits(run: RunRecord, split: SplitScores) -> Iterator[str]:
    yield "<h3>Traits</h3>"
    traits = shown_traits(split.rows)
    if not traits:
        yield missing("The masks weren't measured. Traits come with:", split.command(run, "--traits"))
        return
    yield f"<p class='soft'>{_HOW_TRAITS} The others are in {escape(split.folder.table.name)}.</p>"
    head = ("trait", "images", "true, mean", "predicted, mean", "bias", "RMSE", "correlation")
    rows = []
    for trait in traits:
        found = agreement(trait)
        numbers = (f"{value:.4g}" for value in found[1:5])
        rows.append((trait.axis, str(found.images), *numbers, "none" if found.r is None else f"{found.r:.2f}"))
    yield table(head, rows)
    yield '<div class="figures">'
    for place, trait in enumerate(traits):
        name = f"{_id(split)}-trait{place}"
        if any(trait.labels):
            svg = inline_svg(f"{name}-classes", lambda trait=trait: by_class(trait))  # type: ignore[misc]
            yield drawing(svg, f"{trait.axis}, by class: a dot per image, a bar at the median.")
        svg = inline_svg(name, lambda trait=trait: one_by_one(trait))  # type: ignore[misc]
        yield drawing(svg, f"{trait.axis}, image by image.")
    yield "</div>"


_HOW_TRAITS = "Measured alike on true and predicted masks; bias: predicted minus true."


def _diagram(name: str, bars: list[dict[str, Any]], threshold: float | None, caption: str) -> str:
    found = [Bin(**bar) for bar in bars]
    return drawing(inline_svg(name.translate(_NAMES), lambda: reliability_diagram(found, threshold=threshold)), caption)


def _sureness(found: Calibration) -> str:
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
        f"{found.images} images reach it, {found.accepted_right} of them answered right (target {found.target:.0%})."
    )


def _uncalibrated(run: RunRecord) -> str:
    words = f"{run.stale_calibration} " if run.stale_calibration else "The probabilities aren't calibrated. "
    return missing(words, run.command("calibrate"))


def _stale(run: RunRecord) -> Iterator[str]:
    """What was scored before it was calibrated, or before bars were kept."""
    for split in run.evaluated:
        classes = split.scores.get("classification")
        if classes and "reliability" not in classes:
            yield missing(f"Split {split.title}: an earlier version kept no bars. They come with:", split.command(run))
        elif classes and run.calibration and not classes["calibrated"] and split.head == "network":
            yield missing(f"Split {split.title} was scored before the calibration. Anew:", split.command(run))


def _id(split: SplitScores) -> str:
    return split.key.translate(_NAMES)
