"""A small likeness of a picture that survives recompression and resizing; mirroring and quarter turns only shuffle it.

The picture is shrunk to 32 x 32 grey pixels. Of their cosine transform the 18 x 18 lowest frequencies are kept, each
times its frequency squared: leaves of one cultivar share outline and light, and what tells them apart is finer.
F numbers in a fingerprint; G turns.
"""

import numpy as np
from PIL import Image

_SIDE_PX, _KEPT = 32, 18
F = _KEPT * _KEPT
ALIKE = 0.94  # cosine: a leaf at JPEG quality 50 or half its size keeps 0.97 or more, another leaf reaches 0.91


def _transform() -> np.ndarray:
    """The orthogonal cosine transform's lowest frequencies: (kept, side)."""
    frequency, pixel = np.arange(_KEPT)[:, None], np.arange(_SIDE_PX)[None] + 0.5
    waves: np.ndarray = np.cos(np.pi * frequency * pixel / _SIDE_PX) * np.sqrt(2 / _SIDE_PX)
    return waves.astype(np.float32)


def _turns() -> tuple[np.ndarray, np.ndarray]:
    """Places (8, F) and signs (8, F) of the mirrorings and quarter turns: mirroring negates the odd frequencies."""
    places, signs = [], []
    odd = (-1.0) ** np.arange(_KEPT)
    upright = np.arange(F).reshape(_KEPT, _KEPT)
    for grid in (upright, upright.T):
        for rows in (np.ones(_KEPT), odd):
            for columns in (np.ones(_KEPT), odd):
                places.append(grid.ravel())
                signs.append((rows[:, None] * columns).ravel())
    return np.stack(places), np.stack(signs).astype(np.float32)


_BASIS = _transform()
_WEIGHTS = np.add.outer(np.arange(_KEPT) ** 2, np.arange(_KEPT) ** 2).astype(np.float32)  # frequency squared
PLACES, SIGNS = _turns()


def fingerprint(picture: Image.Image) -> np.ndarray:
    """Take the fingerprint of a picture of any mode that becomes grey: int8 (F,); all 0 for a plain surface."""
    grey = picture.convert("L")
    # BILINEAR weighs pixels by their overlap, so that sizes that are no multiple of 32 leave no pattern
    small = grey.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(small, np.float32)
    if np.ptp(pixels) < 2:  # nothing but rounding
        return np.zeros(F, np.int8)
    waves: np.ndarray = (_BASIS @ pixels @ _BASIS.T * _WEIGHTS).ravel()
    steps: np.ndarray = np.rint(waves * (127 / np.abs(waves).max()))
    return steps.astype(np.int8)


def normalised(fingerprints: np.ndarray) -> np.ndarray:
    """Scale fingerprints (n, F) to length 1, so that products are cosines: float32 (n, F)."""
    lengths: np.ndarray = np.linalg.norm(fingerprints.astype(np.float32), axis=1, keepdims=True)
    units: np.ndarray = fingerprints / np.maximum(lengths, 1)
    return units


def turned(fingerprints: np.ndarray, turn: int) -> np.ndarray:
    """The fingerprints (n, F) of the same pictures, mirrored or turned; turn: 0 (as it is) to 7."""
    moved: np.ndarray = fingerprints[:, PLACES[turn]] * SIGNS[turn]
    return moved
