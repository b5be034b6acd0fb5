"""The picture of an answer: the image with its mask."""

import numpy as np

from mnsa.data.sheet import COLOURS

_BAND_ROWS = 256  # of a scan: as a whole it would be held in float32


def overlay(image: np.ndarray, mask: np.ndarray, *, strength: float = 0.6) -> np.ndarray:
    """Tint the mask's classes: image uint8 (H, W, 3), mask class indices (H, W) -> uint8 (H, W, 3)."""
    picture = image.copy()
    for top in range(0, len(image), _BAND_ROWS):
        _tint(picture[top : top + _BAND_ROWS], mask[top : top + _BAND_ROWS], strength)
    return picture


def _tint(picture: np.ndarray, mask: np.ndarray, strength: float) -> None:
    for index in np.unique(mask[mask > 0]):
        where, colour = mask == index, COLOURS[(index - 1) % len(COLOURS)]
        tinted = (1 - strength) * picture[where].astype(np.float32) + strength * np.array(colour, np.float32)
        picture[where] = tinted.round().astype(np.uint8)
