"""The worst and the best images of a split, each beside its truth; pictures that `mnsa evaluate` has drawn."""

from collections.abc import Iterator, Sequence
from html import escape

from mnsa.evaluation.per_image import extremes
from mnsa.inference.evaluation_pictures import CONFUSED, FOUND, INVENTED, MISSED
from mnsa.report.page import picture
from mnsa.report.run_record import SplitScores

MASK_PANELS = {"photo": "image", "truth": "true mask", "said": "predicted mask", "difference": "difference"}
CLASS_PANELS = {
    "photo": "image",
    "attention": "attention",
    "grad_cam": "Grad-CAM of the class said",
    "grad_cam_true": "Grad-CAM of the true class",
}
_KEY = (
    (FOUND, "found"),
    (MISSED, "missed"),
    (INVENTED, "invented"),
    (CONFUSED, "another class"),
)


def mask_gallery(split: SplitScores) -> Iterator[str]:
    """Images by IoU, the mean over the mask classes without background."""
    keys = "".join(f'<span class="key" style="background:rgb{colour}"></span>{words}' for colour, words in _KEY)
    yield f'<p class="soft">Outlines on the image; in the difference: {keys}.</p>'
    for title, places in _titled(split, "iou", ("Worst masks", "Best masks")):
        yield f"<h3>{title}</h3>"
        for place in places:
            row = split.rows[place]
            yield _card(split, place, f"IoU {float(row['iou']):.3f}", row.get("label", ""), MASK_PANELS)


def class_gallery(split: SplitScores) -> Iterator[str]:
    """Images by the probability of their true class."""
    yield (
        '<p class="soft">Attention weighs the deepest features by place, from the least (dark) to the most (light) of '
        "this image. Grad-CAM shows what speaks for a class, from nothing (dark) to the most (light) of this image.</p>"
    )
    for title, places in _titled(split, "true_probability", ("Worst classified", "Best classified")):
        yield f"<h3>{title}</h3>"
        for place in places:
            row = split.rows[place]
            said = f"said {row['said']} ({float(row['probability']):.0%})"
            words = said if row["said"] == row["label"] else f"{said}, true class {float(row['true_probability']):.0%}"
            yield _card(split, place, words, row["label"], CLASS_PANELS)


def _titled(split: SplitScores, column: str, titles: tuple[str, str]) -> Iterator[tuple[str, Sequence[int]]]:
    """The worst and the best by a column of which pictures were kept."""
    found = extremes([float(row[column]) if row.get(column) else None for row in split.rows])
    return ((title, places) for title, places in zip(titles, found, strict=True) if places)


def _card(split: SplitScores, place: int, words: str, label: str, panels: dict[str, str]) -> str:
    row = split.rows[place]
    name = f"{escape(label)} <span>{escape(row['image'])}</span>" if label else f"<span>{escape(row['image'])}</span>"
    files = {panel: split.folder.picture(place, panel) for panel in panels}
    shown = "".join(
        picture(file.read_bytes(), "image/jpeg", panels[panel], alt=f"{row['image']}: {panels[panel]}")
        for panel, file in files.items()
        if file.is_file()
    )
    return f'<div class="leaf"><h4>{name}: {escape(words)}</h4><div class="panels">{shown}</div></div>'
