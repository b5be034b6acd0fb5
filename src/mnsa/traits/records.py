"""The traits as records, in pixels, and as columns of a table, in millimeters where the scale is known.

A field's name ends in its unit: `_px`, `_px2`, `_px_per_px2`, or none. A number that does not exist (the width of no
vein, the area fraction of no leaf) is NaN.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from mnsa.errors import ConfigError


class Distribution(NamedTuple):
    """A distribution in five numbers: mean, standard deviation, and the 5th, 50th and 95th percentile."""

    mean: float
    sd: float
    p05: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class LeafTraits:
    """The leaf mask. Only the area counts every piece; the rest is of the largest piece's outer contour.

    length_px, width_px: sides of the smallest rectangle around it. circularity: 4 pi area / perimeter^2, 1 for a disk.
    solidity: share of its convex hull that it fills. piece_count: pieces of a hundredth of the leaf or more.
    """

    area_px2: float
    perimeter_px: float
    length_px: float
    width_px: float
    circularity: float
    solidity: float
    piece_count: int


@dataclass(frozen=True, slots=True)
class VeinTraits:
    """The vein network.

    reference: what it is related to: the `leaf`, or without one the veins' convex `hull` or the `image`. length_px: of all
    centerlines, to the veins' ends; density_px_per_px2: that per area of the reference area. area_fraction: the veins' share of
    it. width_px: along the centerlines, every bit of length counting the same. branch_count: places where veins meet.
    free_ending_count: ends inside leaf and image. tortuosity: length of an edge by the distance of its ends, weighted
    by length. order1_length_px: of veins wider than half the widest (the 99th percentile of width); order 2: than a
    quarter; order 3: of the finer ones. distance_px: from the tissue in between to the edge of the nearest vein.
    """

    reference: str
    reference_area_px2: float
    length_px: float
    density_px_per_px2: float
    area_fraction: float
    width_px: Distribution
    branch_count: int
    free_ending_count: int
    tortuosity: Distribution
    order1_length_px: float
    order2_length_px: float
    order3_length_px: float
    distance_px: Distribution


@dataclass(frozen=True, slots=True)
class AreoleTraits:
    """The areoles: regions of the reference area that veins enclose.

    border_count: regions that touch the reference area's border or the image's; they are counted here and left out elsewhere.
    area_px2: down to single pixels, where veins part at a sharp angle. circularity: 4 pi area / perimeter^2.
    elongation: long by short axis of the ellipse with the same second moments. Both shapes are means over areoles.
    """

    count: int
    border_count: int
    area_px2: Distribution
    circularity: float
    elongation: float


@dataclass(frozen=True, slots=True)
class LesionTraits:
    """The lesions, each an 8-connected patch. area_fraction: their share of the leaf."""

    count: int
    area_fraction: float
    area_px2: Distribution


@dataclass(frozen=True, slots=True)
class MaskTraits:
    """All of one mask; None where no mask class has that role."""

    leaf: LeafTraits | None
    vein: VeinTraits | None
    areole: AreoleTraits | None
    lesion: LesionTraits | None


def summarize(values: np.ndarray, weights: np.ndarray | None = None) -> Distribution:
    """Describe values (N,), each counting as much as its weight (N,); all NaN where there is nothing to describe."""
    weights = np.ones(len(values)) if weights is None else weights
    values, weights = values[weights > 0.0], weights[weights > 0.0]
    if not len(values):
        return Distribution(*(float("nan"),) * len(Distribution._fields))
    mean = np.average(values, weights=weights)
    sd = np.sqrt(np.average((values - mean) ** 2, weights=weights))
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) - 0.5 * weights[order]
    percentiles = np.interp(np.array([0.05, 0.5, 0.95]) * weights.sum(), below, values[order])
    return Distribution(float(mean), float(sd), *percentiles.tolist())


_TRAIT_RECORDS: dict[str, type] = {
    "leaf": LeafTraits,
    "vein": VeinTraits,
    "areole": AreoleTraits,
    "lesion": LesionTraits,
}

# unit, the same in millimeters, and the power of px_per_mm that turns one into the other
_UNITS = (("_px_per_px2", "_mm_per_mm2", 1), ("_px2", "_mm2", -2), ("_px", "_mm", -1))


def validate_scale(px_per_mm: float | None) -> None:
    """Refuse what can't be a scale. Raises: ConfigError."""
    if px_per_mm is not None and not (math.isfinite(px_per_mm) and px_per_mm > 0):
        raise ConfigError(f"--px-per-mm is {px_per_mm:g}; expected a positive number of pixels per millimeter.")


def column_names(parts: tuple[str, ...], px_per_mm: float | None) -> list[str]:
    """Columns of the parts `leaf`, `vein`, `areole` and `lesion` of MaskTraits."""
    return [name for part in parts for name, _ in _columns(part, None, px_per_mm)]


def to_columns(traits: MaskTraits, px_per_mm: float | None) -> dict[str, str]:
    """Values by column; a number that doesn't exist is empty text."""
    parts = {part: record for part in _TRAIT_RECORDS if (record := getattr(traits, part)) is not None}
    return dict(column for part, record in parts.items() for column in _columns(part, record, px_per_mm))


def scale_columns(columns: Mapping[str, str], px_per_mm: float) -> dict[str, str]:
    """Convert columns in pixels, as `to_columns` gives them, to millimeters. Raises: ValueError for text that is no number."""
    scaled = {}
    for name, text in columns.items():
        base, unit, factor = _convert_unit(name, px_per_mm)
        scaled[base + unit] = _format_value(float(text), factor) if unit and text else text
    return scaled


def _columns(part: str, record: Any, px_per_mm: float | None) -> Iterator[tuple[str, str]]:
    """Name and value of each column of one part; without a record the values are empty."""
    for field in fields(_TRAIT_RECORDS[part]):
        base, unit, factor = _convert_unit(f"{part}_{field.name}", px_per_mm)
        value = None if record is None else getattr(record, field.name)
        if field.type is Distribution:
            for index, statistic in enumerate(Distribution._fields):
                yield f"{base}_{statistic}{unit}", _format_value(None if value is None else value[index], factor)
        else:
            yield f"{base}{unit}", _format_value(value, factor)


def _convert_unit(name: str, px_per_mm: float | None) -> tuple[str, str, float]:
    """Split a name into base and unit, and give the factor from pixels to that unit."""
    for px, mm, power in _UNITS:
        if name.endswith(px):
            base = name.removesuffix(px)
            return (base, px, 1.0) if px_per_mm is None else (base, mm, px_per_mm**power)
    return name, "", 1.0


def _format_value(value: float | str | None, factor: float) -> str:
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    return "" if math.isnan(value) else f"{value * factor:.6g}"
