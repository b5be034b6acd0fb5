"""Traits of predicted masks compared with those of true masks: by class, and image by image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from mnsa.report.rendering import BLUE, GRAY, ORANGE, RASTERIZE_ABOVE, WIDTH_IN, add_legend_above, inline_svg, new_axes

# The traits with a figure; the unit of a column follows its name. All traits are in images.csv.
SHOWN_TRAITS = (
    "vein_density", "vein_width_mean", "vein_area_fraction", "areole_count", "areole_area_p50", "leaf_area",
    "leaf_circularity", "lesion_count", "lesion_area_fraction",
)  # fmt: skip

UNITS = {"_mm_per_mm2": "mm/mm²", "_px_per_px2": "px/px²", "_mm2": "mm²", "_px2": "px²", "_mm": "mm", "_px": "px"}

MAX_NAMED_TRAIT_CLASSES = 30


class TraitPairs(NamedTuple):
    """One trait of every image that has both masks: labels, values of the true and of the predicted mask, (N,)."""

    name: str
    unit: str
    labels: Sequence[str]
    true: np.ndarray
    predicted: np.ndarray

    @property
    def axis(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name


class Agreement(NamedTuple):
    """How far predicted values are from true ones.

    images: N. true, predicted: means. bias: mean of predicted minus true. rmse: root of the mean squared difference. r:
    Pearson's correlation, None where the values of one mask are all equal.
    """

    images: int
    true: float
    predicted: float
    bias: float
    rmse: float
    r: float | None


class TraitSection(NamedTuple):
    """Rows of text of the table of traits, and drawings with their captions."""

    rows: list[tuple[str, ...]]
    figures: list[tuple[Markup, str]]


def trait_section(rows: Sequence[Mapping[str, str]], name: str) -> TraitSection | None:
    """Compare the traits of both masks; None when they were not measured. name: of the SVGs, unique on the page."""
    traits = read_trait_pairs(rows)
    figures: list[tuple[Markup, str]] = []
    for number, trait in enumerate(traits):
        if any(trait.labels):
            svg = inline_svg(f"{name}-trait{number}-classes", partial(plot_by_class, trait))
            figures.append((svg, f"{trait.axis}, by class: a dot per image, a bar at the median."))
        svg = inline_svg(f"{name}-trait{number}", partial(plot_true_vs_predicted, trait))
        figures.append((svg, f"{trait.axis}, image by image."))
    return TraitSection([_agreement_row(trait) for trait in traits], figures) if traits else None


def read_trait_pairs(rows: Sequence[Mapping[str, str]]) -> list[TraitPairs]:
    """The traits of SHOWN_TRAITS, of the images with a number for both masks."""
    columns = [name.removeprefix("true_") for name in (rows[0] if rows else ()) if name.startswith("true_")]
    traits = []
    for column in columns:
        unit = next((unit for unit in UNITS if column.endswith(unit)), "")
        name = column.removesuffix(unit)
        if name not in SHOWN_TRAITS:
            continue
        pairs = [(row.get("label", ""), row[f"true_{column}"], row[f"predicted_{column}"]) for row in rows]
        both = [(label, float(true), float(predicted)) for label, true, predicted in pairs if true and predicted]
        if both:
            labels, true, predicted = zip(*both, strict=True)
            title = name.replace("_", " ").replace(" p50", ", median").replace(" mean", ", mean")
            traits.append(TraitPairs(title, UNITS.get(unit, ""), labels, np.array(true), np.array(predicted)))
    return traits


def compute_agreement(trait: TraitPairs) -> Agreement:
    """Compare the values of the predicted masks with those of the true masks."""
    off = trait.predicted - trait.true
    varies = len(off) > 1 and trait.true.std() > 0 and trait.predicted.std() > 0
    return Agreement(
        len(off), float(trait.true.mean()), float(trait.predicted.mean()), float(off.mean()),
        float(np.sqrt((off**2).mean())), float(np.corrcoef(trait.true, trait.predicted)[0, 1]) if varies else None,
    )  # fmt: skip


def plot_by_class(trait: TraitPairs) -> Figure:
    """A column of dots per class for each mask, and a bar at the median; classes by name, as in a data set."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(trait.labels):
        places[label].append(place)
    names = sorted(name for name in places if name)
    named = len(names) <= MAX_NAMED_TRAIT_CLASSES
    figure, axes = new_axes("" if named else f"{len(names)} classes, by name", trait.axis, width=WIDTH_IN, height=3.2)
    sides = ((trait.true, -0.18, GRAY, "true mask"), (trait.predicted, 0.18, BLUE, "predicted mask"))
    for values, shift, color, label in sides:
        spots = [(x + shift, values[place]) for x, name in enumerate(names) for place in places[name]]
        axes.plot(
            *zip(*spots, strict=True),
            "o",
            color=color,
            markersize=3,
            alpha=0.55,
            rasterized=len(spots) > RASTERIZE_ABOVE,
        )
        medians = [np.median(values[places[name]]) for name in names]
        centers = np.arange(len(names)) + shift
        axes.hlines(medians, centers - 0.16, centers + 0.16, color=color, linewidth=2.5, label=label)
    if named:
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 4 else 0, fontsize=8)
    else:
        axes.set_xticks([])
    axes.set_ylim(bottom=0)
    add_legend_above(axes)
    return figure


def plot_true_vs_predicted(trait: TraitPairs) -> Figure:
    """A dot per image: the value of the predicted mask by that of the true mask; on the line they are equal."""
    figure, axes = new_axes(f"true mask: {trait.axis}", "predicted mask", width=WIDTH_IN * 0.8, height=3.2)
    many = len(trait.true) > RASTERIZE_ABOVE
    axes.plot(trait.true, trait.predicted, "o", color=BLUE, markersize=3.5, alpha=0.6, rasterized=many)
    low, high = (extreme(extreme(trait.true), extreme(trait.predicted)) for extreme in (_minimum, _maximum))
    margin = 0.05 * (high - low) or 0.05
    ends = low - margin, high + margin
    axes.plot(ends, ends, color=ORANGE, linewidth=1.2, linestyle="--", label="equal")
    axes.set(xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    add_legend_above(axes)
    return figure


def _agreement_row(trait: TraitPairs) -> tuple[str, ...]:
    found = compute_agreement(trait)
    numbers = (_format_number(value) for value in found[1:5])
    return trait.axis, str(found.images), *numbers, "none" if found.r is None else f"{found.r:.2f}"


def _format_number(value: float) -> str:
    """A number with four digits, or all those before the point: 44,810, 3.142, 0.0005000; never 4.481e+04."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 3 - int(np.floor(np.log10(abs(value)))))}f}"


def _minimum(*values: np.ndarray | float) -> float:
    return float(min(np.min(value) for value in values))


def _maximum(*values: np.ndarray | float) -> float:
    return float(max(np.max(value) for value in values))
