"""Traits as columns of a table, with their units in the names: millimetres where a scale is known, otherwise pixels."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from mnsa.errors import ConfigError
from mnsa.traits.records import AreoleTraits, LeafTraits, LesionTraits, Spread, Traits, VeinTraits

_KINDS: dict[str, type] = {"leaf": LeafTraits, "vein": VeinTraits, "areole": AreoleTraits, "lesion": LesionTraits}
# unit, the same in millimetres, and the power of px_per_mm that turns one into the other
_UNITS = (("_px_per_px2", "_mm_per_mm2", 1), ("_px2", "_mm2", -2), ("_px", "_mm", -1))


def check_scale(px_per_mm: float | None) -> None:
    """Refuse what can't be a scale. Raises: ConfigError."""
    if px_per_mm is not None and not (math.isfinite(px_per_mm) and px_per_mm > 0):
        raise ConfigError(f"--px-per-mm is {px_per_mm:g}; expected a positive number of pixels per millimetre.")


def column_names(parts: tuple[str, ...], px_per_mm: float | None) -> list[str]:
    """Columns of the parts `leaf`, `vein`, `areole` and `lesion` of Traits."""
    return [name for part in parts for name, _ in _columns(part, None, px_per_mm)]


def to_columns(traits: Traits, px_per_mm: float | None) -> dict[str, str]:
    """Values by column; a number that doesn't exist is empty text."""
    parts = {part: record for part in _KINDS if (record := getattr(traits, part)) is not None}
    return dict(column for part, record in parts.items() for column in _columns(part, record, px_per_mm))


def _columns(part: str, record: Any, px_per_mm: float | None) -> Iterator[tuple[str, str]]:
    """Name and value of each column of one part; without a record the values are empty."""
    for field in fields(_KINDS[part]):
        base, unit, factor = _in_unit(f"{part}_{field.name}", px_per_mm)
        value = None if record is None else getattr(record, field.name)
        if field.type is Spread:
            for index, statistic in enumerate(Spread._fields):
                yield f"{base}_{statistic}{unit}", _text(None if value is None else value[index], factor)
        else:
            yield f"{base}{unit}", _text(value, factor)


def _in_unit(name: str, px_per_mm: float | None) -> tuple[str, str, float]:
    """Split a name into base and unit, and give the factor from pixels to that unit."""
    for px, mm, power in _UNITS:
        if name.endswith(px):
            base = name.removesuffix(px)
            return (base, px, 1.0) if px_per_mm is None else (base, mm, px_per_mm**power)
    return name, "", 1.0


def _text(value: float | str | None, factor: float) -> str:
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    return "" if math.isnan(value) else f"{value * factor:.6g}"
