"""A perceptual hash of an image.

It changes little under recompression and resizing. Mirroring the image, or rotating it by 90 degrees, permutes the hash
and flips signs. The image is resized to 32 x 32 gray pixels; of its discrete cosine transform (DCT) the 18 x 18 lowest
frequencies are kept, each multiplied by its squared frequency, because leaves of one cultivar have the same outline and
illumination and differ in finer structure.
n images; F numbers in a hash.
"""

import numpy as np
from PIL import Image

_SIDE_PX, _FREQUENCIES = 32, 18

HASH_LENGTH = _FREQUENCIES * _FREQUENCIES

# A leaf at JPEG quality 50 or at half its size keeps a cosine of 0.97 or more; another leaf reaches at most 0.91.
NEAR_DUPLICATE_COSINE = 0.94


def _dct_basis() -> np.ndarray:
    """The lowest frequencies of the orthogonal DCT: (frequencies, pixels)."""
    frequency, pixel = np.arange(_FREQUENCIES)[:, None], np.arange(_SIDE_PX)[None] + 0.5
    waves: np.ndarray = np.cos(np.pi * frequency * pixel / _SIDE_PX) * np.sqrt(2 / _SIDE_PX)
    return waves.astype(np.float32)


def _orientation_tables() -> tuple[np.ndarray, np.ndarray]:
    """Indices (8, F) and signs (8, F) of the eight orientations: mirroring negates the odd frequencies."""
    indices, signs = [], []
    identity, mirrored = np.ones(_FREQUENCIES), (-1.0) ** np.arange(_FREQUENCIES)
    upright = np.arange(HASH_LENGTH).reshape(_FREQUENCIES, _FREQUENCIES)
    for grid in (upright, upright.T):
        for row_signs in (identity, mirrored):
            for column_signs in (identity, mirrored):
                indices.append(grid.ravel())
                signs.append((row_signs[:, None] * column_signs).ravel())
    return np.stack(indices), np.stack(signs).astype(np.float32)


_DCT_BASIS = _dct_basis()

_SQUARED = np.arange(_FREQUENCIES) ** 2

_WEIGHTS = np.add.outer(_SQUARED, _SQUARED).astype(np.float32)  # squared frequency

ORIENTATION_INDICES, ORIENTATION_SIGNS = _orientation_tables()


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """Compute the hash of an image of any mode that converts to gray: int8 (F,); all 0 if the image has one color."""
    gray = image.convert("L")
    # BILINEAR weights pixels by their overlap, so sizes that are no multiple of 32 add no pattern.
    small = gray.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(small, np.float32)
    if np.ptp(pixels) < 2:  # rounding errors only
        return np.zeros(HASH_LENGTH, np.int8)
    coefficients: np.ndarray = (_DCT_BASIS @ pixels @ _DCT_BASIS.T * _WEIGHTS).ravel()
    quantized: np.ndarray = np.rint(coefficients * (127 / np.abs(coefficients).max()))
    return quantized.astype(np.int8)


def normalize_hashes(hashes: np.ndarray) -> np.ndarray:
    """Scale hashes (n, F) to unit length, so that dot products are cosines: float32 (n, F)."""
    lengths: np.ndarray = np.linalg.norm(hashes.astype(np.float32), axis=1, keepdims=True)
    units: np.ndarray = hashes / np.maximum(lengths, 1)
    return units


def reorient_hashes(hashes: np.ndarray, orientation: int) -> np.ndarray:
    """Convert hashes (n, F) to those of the mirrored or rotated images. orientation: 0 (unchanged) to 7."""
    reoriented: np.ndarray = hashes[:, ORIENTATION_INDICES[orientation]] * ORIENTATION_SIGNS[orientation]
    return reoriented
