"""Trait records in pixels, and their conversion to table columns, in millimeters if the scale is known.

The name of a field ends in its unit: `_px`, `_px2`, `_px_per_px2`, or no unit. Undefined values are NaN, such as the
width of veins in a mask without veins.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from mnsa.data.rows import SCALES
from mnsa.errors import ConfigError

# unit in pixels, unit in millimeters, and the power of px_per_mm that converts one to the other
_UNITS = (("_px_per_px2", "_mm_per_mm2", 1), ("_px2", "_mm2", -2), ("_px", "_mm", -1))

SCALE_COLUMN = "px_per_mm"  # of tables with traits in millimeters


class Distribution(NamedTuple):
    """Summary of a distribution: mean, standard deviation, and the 5th, 50th and 95th percentile."""

    mean: float
    sd: float
    p05: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class LeafTraits:
    """Traits of the leaf mask. The area includes all pieces; the shape is that of the largest piece's outer contour.

    length_px, width_px: sides of the smallest enclosing rectangle. circularity: 4 pi area / perimeter^2, 1 for a disk.
    solidity: area / area of the convex hull. piece_count: pieces of at least 1 % of the leaf area.
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
    """Traits of the vein network.

    reference: name of the reference area: `leaf`, or without a leaf mask the convex `hull` of the veins or the `image`.
    length_px: of all centerlines, up to the ends of the veins. density_px_per_px2: length / reference area.
    area_fraction: vein area / reference area. width_px: along the centerlines, weighted by length.
    branch_count: points where veins meet. free_ending_count: ends inside of leaf and image.
    tortuosity: length of an edge / distance of its ends, weighted by length. order1_length_px: length of veins wider
    than half of the 99th percentile of width; order 2: wider than a quarter; order 3: the finer veins.
    distance_px: from each pixel between the veins to the edge of the nearest vein.
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
    """Traits of the areoles: regions of the reference area that veins enclose.

    border_count: regions that touch the border of the reference area or image; all other traits leave them out.
    area_px2: includes areoles of single pixels, between veins at a sharp angle. circularity: 4 pi area / perimeter^2.
    elongation: long axis / short axis of the ellipse with the same second moments. Both are means over the areoles.
    """

    count: int
    border_count: int
    area_px2: Distribution
    circularity: float
    elongation: float


@dataclass(frozen=True, slots=True)
class LesionTraits:
    """Traits of the lesions, which are 8-connected regions. area_fraction: lesion area / leaf area."""

    count: int
    area_fraction: float
    area_px2: Distribution


@dataclass(frozen=True, slots=True)
class MaskTraits:
    """All traits of one mask. A record is None when no mask class has its role."""

    leaf: LeafTraits | None
    vein: VeinTraits | None
    areole: AreoleTraits | None
    lesion: LesionTraits | None


def summarize(values: np.ndarray, weights: np.ndarray | None = None) -> Distribution:
    """Summarize values (N,) with weights (N,). All numbers are NaN when there are no values."""
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


def validate_scale(px_per_mm: float | None) -> None:
    """Validate a scale. Raises: ConfigError unless it is None, or from 1e-6 (a satellite's) to 1e6 (1 nm per pixel)."""
    if px_per_mm is not None and not SCALES[0] <= px_per_mm <= SCALES[1]:
        raise ConfigError(
            f"--px-per-mm is {px_per_mm:g}; expected a positive number of pixels per millimeter, from 1e-6 to 1e6."
        )


def column_names(parts: tuple[str, ...], px_per_mm: float | None) -> list[str]:
    """List the columns of the parts of MaskTraits: `leaf`, `vein`, `areole`, `lesion`."""
    return [name for part in parts for name, _ in _values(part, None, px_per_mm)]


def to_columns(traits: MaskTraits, px_per_mm: float | None) -> dict[str, str]:
    """Convert traits to text by column. Undefined values are empty text."""
    return {name: _format_value(value) for name, value in _all_values(traits, px_per_mm)}


def to_numbers(traits: MaskTraits, px_per_mm: float | None) -> dict[str, float]:
    """Convert traits to numbers by column. Undefined values are NaN; `vein_reference`, a name, is left out."""
    return {name: float(value) for name, value in _all_values(traits, px_per_mm) if not isinstance(value, str)}


def scale_columns(columns: Mapping[str, str], px_per_mm: float) -> dict[str, str]:
    """Convert columns of `to_columns` from pixels to millimeters. Raises: ValueError for text that is not a number."""
    scaled = {}
    for name, text in columns.items():
        base, unit, factor = _convert_unit(name, px_per_mm)
        scaled[base + unit] = _format_value(float(text) * factor) if unit and text else text
    return scaled


def enlarge_columns(columns: Mapping[str, str], factor: float) -> dict[str, str]:
    """Convert columns of `to_columns` in pixels to those of the same image with sides that are longer by a factor."""
    scaled = scale_columns(columns, 1 / factor)  # as if the pixels of the larger image were millimeters
    return dict(zip(columns, scaled.values(), strict=True))


def _all_values(traits: MaskTraits, px_per_mm: float | None) -> Iterator[tuple[str, float | str]]:
    for part in _TRAIT_RECORDS:
        if (record := getattr(traits, part)) is not None:
            yield from _values(part, record, px_per_mm)


def _values(part: str, record: Any, px_per_mm: float | None) -> Iterator[tuple[str, float | str]]:
    """Yield name and value of each column of one part. Without a record the values are NaN."""
    for field in fields(_TRAIT_RECORDS[part]):
        base, unit, factor = _convert_unit(f"{part}_{field.name}", px_per_mm)
        value: Any = getattr(record, field.name, math.nan)
        if field.type is Distribution:
            for statistic in Distribution._fields:
                yield f"{base}_{statistic}{unit}", getattr(value, statistic, math.nan) * factor
        else:
            yield f"{base}{unit}", value if isinstance(value, str | int) else value * factor


def _convert_unit(name: str, px_per_mm: float | None) -> tuple[str, str, float]:
    """Split a name into base and unit; also return the factor from pixels to that unit."""
    for px, mm, power in _UNITS:
        if name.endswith(px):
            base = name.removesuffix(px)
            return (base, px, 1.0) if px_per_mm is None else (base, mm, px_per_mm**power)
    return name, "", 1.0


def _format_value(value: float | str) -> str:
    if isinstance(value, str | int):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"
