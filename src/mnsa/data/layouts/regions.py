"""The connected regions of a mask: what layouts of objects call an object.

H, W mask size in pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Region(NamedTuple):
    """One region. value: its pixels' class index; top, left: where its box begins; inside: bool (h, w), in its box."""

    value: int
    top: int
    left: int
    inside: np.ndarray


def regions_of(mask: np.ndarray) -> Iterator[Region]:
    """Take class indices (H, W) apart into regions of pixels that share an edge, class by class; 0 is no region."""
    for value in (int(value) for value in np.unique(mask) if value):
        numbered, _ = ndimage.label(mask == value)
        for number, box in enumerate(ndimage.find_objects(numbered), 1):
            yield Region(value, box[0].start, box[1].start, numbered[box] == number)
