"""A perceptual hash of an image.

It survives recompression and resizing; mirroring and rotation by 90 degrees only permute it and flip its signs.
The image is shrunk to 32 x 32 gray pixels. Of their cosine transform the 18 x 18 lowest frequencies are kept, each
times its frequency squared: leaves of one cultivar share outline and light, and differ in finer structure.
F numbers in a hash; G orientations.
"""

import numpy as np
from PIL import Image

_SIDE_PX, _KEPT_FREQUENCIES = 32, 18

HASH_LENGTH = _KEPT_FREQUENCIES * _KEPT_FREQUENCIES

NEAR_DUPLICATE_COSINE = (
    0.94  # cosine: a leaf at JPEG quality 50 or half its size keeps 0.97 or more, another leaf reaches 0.91
)


def _cosine_basis() -> np.ndarray:
    """The orthogonal cosine transform's lowest frequencies: (kept, side)."""
    frequency, pixel = np.arange(_KEPT_FREQUENCIES)[:, None], np.arange(_SIDE_PX)[None] + 0.5
    waves: np.ndarray = np.cos(np.pi * frequency * pixel / _SIDE_PX) * np.sqrt(2 / _SIDE_PX)
    return waves.astype(np.float32)


def _orientations() -> tuple[np.ndarray, np.ndarray]:
    """Places (8, F) and signs (8, F) of the mirrorings and quarter turns: mirroring negates the odd frequencies."""
    places, signs = [], []
    odd = (-1.0) ** np.arange(_KEPT_FREQUENCIES)
    upright = np.arange(HASH_LENGTH).reshape(_KEPT_FREQUENCIES, _KEPT_FREQUENCIES)
    for grid in (upright, upright.T):
        for rows in (np.ones(_KEPT_FREQUENCIES), odd):
            for columns in (np.ones(_KEPT_FREQUENCIES), odd):
                places.append(grid.ravel())
                signs.append((rows[:, None] * columns).ravel())
    return np.stack(places), np.stack(signs).astype(np.float32)


_COSINE_BASIS = _cosine_basis()

_WEIGHTS = np.add.outer(np.arange(_KEPT_FREQUENCIES) ** 2, np.arange(_KEPT_FREQUENCIES) ** 2).astype(
    np.float32
)  # frequency squared

ORIENTATION_INDICES, ORIENTATION_SIGNS = _orientations()


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Compute the hash of an image of any mode that becomes gray: int8 (F,); all 0 for a plain surface."""
    gray = image.convert("L")
    # BILINEAR weighs pixels by their overlap, so that sizes that are no multiple of 32 leave no pattern
    small = gray.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(small, np.float32)
    if np.ptp(pixels) < 2:  # nothing but rounding
        return np.zeros(HASH_LENGTH, np.int8)
    waves: np.ndarray = (_COSINE_BASIS @ pixels @ _COSINE_BASIS.T * _WEIGHTS).ravel()
    steps: np.ndarray = np.rint(waves * (127 / np.abs(waves).max()))
    return steps.astype(np.int8)


def normalize_hashes(hashes: np.ndarray) -> np.ndarray:
    """Scale hashes (n, F) to length 1, so that products are cosines: float32 (n, F)."""
    lengths: np.ndarray = np.linalg.norm(hashes.astype(np.float32), axis=1, keepdims=True)
    units: np.ndarray = hashes / np.maximum(lengths, 1)
    return units


def reorient_hashes(hashes: np.ndarray, orientation: int) -> np.ndarray:
    """The hashes (n, F) of the same images, mirrored or turned; orientation: 0 (as it is) to 7."""
    moved: np.ndarray = hashes[:, ORIENTATION_INDICES[orientation]] * ORIENTATION_SIGNS[orientation]
    return moved
