"""Numbers as a page writes them."""

from collections.abc import Sequence


def number(value: float | None) -> str:
    """Three digits, or `none` where there was nothing to score."""
    return "none" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """From where to where."""
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
