"""Mask classes under other names: layouts of objects name the foreground alone."""

from collections.abc import Sequence

from mnsa.data.layouts.facts import Facts
from mnsa.errors import DataError

BACKGROUND = "background"
MOST_CLASSES = 254  # a mask's pixel is a byte, and 255 stands for the class where there is only one


def foreground(mask_classes: Sequence[str]) -> tuple[str, ...]:
    """Name the pixel values 1, 2, ... of masks."""
    return tuple(mask_classes) if len(mask_classes) == 1 else tuple(mask_classes[1:])


def mask_classes_of(found: Sequence[str], facts: Facts | None, where: str) -> tuple[str, ...]:
    """Name all pixel values, given the names of 1, 2, ...: as the facts have them; else one name stands alone.

    Raises: DataError for names that differ from the facts', that are alike, too many or none.
    """
    if facts:
        if foreground(facts.mask_classes) != tuple(found):
            raise DataError(
                f"{where}: the classes are {', '.join(found)}, but {facts.where} has {', '.join(facts.mask_classes)}. "
                "Remove the latter, or make both agree."
            )
        return facts.mask_classes
    if not found:
        raise DataError(f"{where} names no classes of masks.")
    if len({*found, BACKGROUND}) <= len(found) or len(found) > MOST_CLASSES:
        raise DataError(f"{where}: {len(found)} classes; expected at most {MOST_CLASSES}, of different names.")
    return tuple(found) if len(found) == 1 else (BACKGROUND, *found)
