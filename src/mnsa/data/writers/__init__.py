"""A data set in the layout of another tool, which the importers of the same names read back."""

from mnsa.data.writers.convert import LAYOUTS, convert

__all__ = ["LAYOUTS", "convert"]
