"""The images with the worst and the best scores, with their panels."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from mnsa.metrics.evaluation_files import worst_and_best
from mnsa.report.rendering import data_uri, plot_color
from mnsa.report.run_record import SplitScores
from mnsa.visualize.palette import CORRECT_COLOR, FALSE_POSITIVE_COLOR, MISSED_COLOR, WRONG_CLASS_COLOR

MASK_PANELS = {"photo": "image", "truth": "true mask", "predicted": "predicted mask", "difference": "difference"}

CLASS_PANELS = {
    "photo": "image",
    "attention": "attention",
    "grad_cam": "Grad-CAM of the predicted class",
    "grad_cam_true": "Grad-CAM of the true class",
}

DIFFERENCE_LEGEND = [
    (plot_color(CORRECT_COLOR), "correct"),
    (plot_color(MISSED_COLOR), "missed"),
    (plot_color(FALSE_POSITIVE_COLOR), "false positive"),
    (plot_color(WRONG_CLASS_COLOR), "wrong class"),
]


class Panel(NamedTuple):
    """One picture of an image, as a data URI."""

    uri: str
    caption: str


class ImageCard(NamedTuple):
    """One image: its true class (or empty), its file name, what it scored, and its panels."""

    label: str
    image: str
    text: str
    panels: list[Panel]


class Gallery(NamedTuple):
    """Titles with their images. note: which explanation goes above them."""

    note: Literal["difference", "maps"]
    parts: list[tuple[str, list[ImageCard]]]


def galleries(split: SplitScores) -> list[Gallery]:
    """The images of a split by IoU, and by the probability of their true class; those that the rows have."""
    found = [
        Gallery("difference", _parts(split, "iou", ("Worst masks", "Best masks"), _mask_text, MASK_PANELS)),
        Gallery(
            "maps",
            _parts(split, "true_probability", ("Worst classified", "Best classified"), _class_text, CLASS_PANELS),
        ),
    ]
    return [gallery for gallery in found if gallery.parts]


def _parts(
    split: SplitScores, column: str, titles: tuple[str, str], describe: Callable[[Mapping[str, str]], str],
    panels: Mapping[str, str],
) -> list[tuple[str, list[ImageCard]]]:  # fmt: skip
    """The worst and the best images by a column, of which `mnsa evaluate` saved pictures."""
    worst, best = worst_and_best([float(row[column]) if row.get(column) else None for row in split.rows])
    if column == "true_probability":  # the best of many classes may still be wrong
        best = [index for index in best if split.rows[index]["predicted"] == split.rows[index]["label"]]
    return [
        (title, [_image_card(split, index, describe(split.rows[index]), panels) for index in indices])
        for title, indices in zip(titles, (worst, best), strict=True)
        if indices
    ]


def _mask_text(row: Mapping[str, str]) -> str:
    return f"IoU {float(row['iou']):.3f}"


def _class_text(row: Mapping[str, str]) -> str:
    text = f"predicted {row['predicted']} ({float(row['probability']):.0%})"
    wrong = row["predicted"] != row["label"]
    return f"{text}, true class {float(row['true_probability']):.0%}" if wrong else text


def _image_card(split: SplitScores, index: int, text: str, panels: Mapping[str, str]) -> ImageCard:
    row = split.rows[index]
    files = {panel: split.folder.image_path(index, panel) for panel in panels}
    shown = [
        Panel(data_uri(file.read_bytes(), "image/jpeg"), panels[panel])
        for panel, file in files.items()
        if file.is_file()
    ]
    return ImageCard(row.get("label", ""), row["image"], text, shown)
