"""Find pairs of similar images by a perceptual hash, without comparing all pairs.

The hash changes little under recompression and resizing. Mirroring the image, or rotating it by 90 degrees, permutes
the hash and flips signs. The image is resized to 32 x 32 gray pixels; of its discrete cosine transform (DCT) the 18 x
18 lowest frequencies are kept, each multiplied by its squared frequency, because leaves of one cultivar have the same
outline and illumination and differ in finer structure.
Pairs are found by locality-sensitive hashing with random hyperplanes (Charikar 2002): each bit tells on which side of a
random plane a hash lies. Two hashes differ in a bit with probability angle / 180 degrees. 16 bits make a key, and only
images that share one of 48 keys are compared. Two images that are just similar (cosine 0.94) share one with a
probability of 0.999, two unrelated images with 0.0007. So the time grows linearly with the number of images, as long as
not tens of thousands of them are similar.
n images; m pairs; F numbers in a hash.
"""

from collections.abc import Iterator
from typing import NamedTuple

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


_LSH_TABLES, _LSH_BITS = 48, 16


_ORIENTATIONS = len(ORIENTATION_INDICES)


_MAX_HAMMING_DISTANCE = 130  # of 768 bits; at a cosine of 0.94 the distance is 85 +- 9


_MAX_BUCKET_MATCHES = 256  # per image and key: thousands of similar images are not all compared with each other


_MAX_PARTNERS = 64  # an image that has so many similar images is compared with no more


_PAIRS_PER_CHUNK = 1 << 18  # pairs in memory at once


_COSINES_PER_CHUNK = 1 << 14


_IMAGES_PER_CHUNK = 4096


_POPCOUNT = np.array([number.bit_count() for number in range(1 << _LSH_BITS)], np.uint8)


class SimilarPairs(NamedTuple):
    """Pairs of similar images: index of the first, larger index of the second, and their cosine; each (m,)."""

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray


def find_similar_pairs(hashes: np.ndarray, *, min_cosine: float = NEAR_DUPLICATE_COSINE) -> SimilarPairs:
    """Find pairs of similar perceptual hashes.

    hashes: int8 (n, F). min_cosine: smallest cosine of a pair, in the best of the eight orientations.
    Among thousands of similar images, each is paired with only some of the others.
    """
    units = normalize_hashes(hashes)
    keys = _lsh_keys(units)
    partners = np.where(units.any(axis=1), 0, _MAX_PARTNERS)  # images of one color have no similar images
    found = [_pairs_in_orientation(units, keys, n, partners, min_cosine) for n in range(_ORIENTATIONS)]
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((-cosine, second, first))  # pairs found in several orientations: the best comes first
    first, second, cosine = first[order], second[order], cosine[order]
    is_best = np.ones(len(first), bool)
    is_best[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return SimilarPairs(first[is_best], second[is_best], cosine[is_best])


def _lsh_keys(units: np.ndarray) -> np.ndarray:
    """Compute the keys of every hash (n, F) in every orientation: uint16 (8, n, 48)."""
    planes = np.random.default_rng(0).standard_normal((HASH_LENGTH, _LSH_TABLES * _LSH_BITS)).astype(np.float32)
    keys = np.empty((_ORIENTATIONS, len(units), _LSH_TABLES), np.uint16)
    for start in range(0, len(units), _IMAGES_PER_CHUNK):
        chunk = slice(start, start + _IMAGES_PER_CHUNK)
        for orientation in range(_ORIENTATIONS):
            bits = np.packbits(reorient_hashes(units[chunk], orientation) @ planes > 0, axis=1)
            keys[orientation, chunk] = bits.view(np.uint16)
    return keys


def _pairs_in_orientation(
    units: np.ndarray, keys: np.ndarray, orientation: int, partners: np.ndarray, min_cosine: float
) -> SimilarPairs:
    """Find the pairs whose second image is in this orientation.

    partners: (n,), number of pairs in which each image is the second; updated in place.
    """
    n = len(units)
    codes, cosines = np.empty(0, np.int64), np.empty(0, np.float32)  # sorted codes: first * n + second
    for table in range(_LSH_TABLES):
        searching = np.flatnonzero(partners < _MAX_PARTNERS)
        for first, position in _bucket_matches(keys[0, :, table], keys[orientation, searching, table]):
            second = searching[position]
            distances = _hamming_distances(keys[0, first], keys[orientation, second])
            is_candidate = (first < second) & (distances <= _MAX_HAMMING_DISTANCE)
            code = np.sort(first[is_candidate] * n + second[is_candidate])
            is_known = np.searchsorted(codes, code, "right") > np.searchsorted(codes, code, "left")
            code = code[~is_known]
            cosine = _cosine_similarities(units, code // n, code % n, orientation)
            code, cosine = code[cosine >= min_cosine], cosine[cosine >= min_cosine]
            partners += np.bincount(code % n, minlength=n)
            at = np.searchsorted(codes, code)
            codes, cosines = np.insert(codes, at, code), np.insert(cosines, at, cosine)
    return SimilarPairs(codes // n, codes % n, cosines)


def _bucket_matches(keys: np.ndarray, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Join keys, uint16 (n,), with queries, uint16 (n',), where they are equal: indices into both, in chunks.

    Of a query with too many matches, evenly spaced ones are taken.
    """
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    low, high = (np.searchsorted(sorted_keys, queries, side) for side in ("left", "right"))
    matches = np.minimum(high - low, _MAX_BUCKET_MATCHES)  # of each query
    for some in _split_by_total(matches, _PAIRS_PER_CHUNK):
        query = np.repeat(some, matches[some])
        rank = np.arange(len(query)) - np.repeat(np.cumsum(matches[some]) - matches[some], matches[some])
        position = low[query] + rank * (high - low)[query] // np.maximum(matches[query], 1)
        yield order[position], query


def _split_by_total(counts: np.ndarray, limit: int) -> list[np.ndarray]:
    """Split the indices of `counts` into consecutive arrays whose counts add up to about `limit`."""
    ends = np.cumsum(counts)
    limits = np.arange(limit, int(ends[-1]) if len(ends) else 0, limit)
    return np.split(np.arange(len(counts)), np.unique(np.searchsorted(ends, limits)))


def _hamming_distances(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Count the different bits of uint16 (m, 48) and (m, 48): (m,)."""
    counts: np.ndarray = _POPCOUNT[keys ^ others].sum(axis=1, dtype=np.int32)
    return counts


def _cosine_similarities(units: np.ndarray, first: np.ndarray, second: np.ndarray, orientation: int) -> np.ndarray:
    """Cosine of each pair (m,), the second image in the given orientation: float32 (m,)."""
    chunks = [slice(start, start + _COSINES_PER_CHUNK) for start in range(0, len(first), _COSINES_PER_CHUNK)]
    cosines = [(units[first[some]] * reorient_hashes(units[second[some]], orientation)).sum(axis=1) for some in chunks]
    return np.concatenate([np.empty(0, np.float32), *cosines])
