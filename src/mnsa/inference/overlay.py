"""The picture of an answer: the image with its mask."""

import numpy as np

from mnsa.data.sheet import COLOURS


def overlay(image: np.ndarray, mask: np.ndarray, *, strength: float = 0.6) -> np.ndarray:
    """Tint the mask's classes: image uint8 (H, W, 3), mask class indices (H, W) -> uint8 (H, W, 3)."""
    tinted = image.astype(np.float32)
    for index in np.unique(mask[mask > 0]):
        where, colour = mask == index, COLOURS[(index - 1) % len(COLOURS)]
        tinted[where] = (1 - strength) * tinted[where] + strength * np.array(colour, np.float32)
    return tinted.round().astype(np.uint8)
