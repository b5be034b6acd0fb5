"""Pairs of similar images among many, without comparing each with each.

Locality-sensitive hashing (Charikar 2002): random planes through zero give a bit each, the side a hash lies on. Two
hashes differ in a bit with the probability angle / 180 degrees. 16 bits make a key. Images that share one of 48 keys
are compared: two that are barely similar (cosine 0.94) with a probability of 0.999, two that have nothing in common
with one of 0.0007. So the work grows with the number of images, and no faster until tens of thousands are similar.
n images; F numbers in a hash.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mnsa.data.validation.perceptual_hash import (
    HASH_LENGTH,
    NEAR_DUPLICATE_COSINE,
    ORIENTATION_INDICES,
    normalize_hashes,
    reorient_hashes,
)

_LSH_TABLES, _LSH_BITS = 48, 16

_MAX_HAMMING_DISTANCE = 130  # of 768: at 0.94 it is 85 +- 9

_MAX_BUCKET_MATCHES = 256  # of one image at one key: thousands of like images need not all meet each other

_MAX_PARTNERS = 64  # partners, after which a image asks no more

_PAIRS_PER_CHUNK = 1 << 18  # pairs held in memory

_POPCOUNT = np.array([bin(number).count("1") for number in range(1 << _LSH_BITS)], np.uint8)


class SimilarPairs(NamedTuple):
    """Like images: the first's index, the second's, which is larger, and their cosine; each (m,)."""

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray


def find_similar_pairs(hashes: np.ndarray, *, min_cosine: float = NEAR_DUPLICATE_COSINE) -> SimilarPairs:
    """Find the pairs among int8 (n, F) whose cosine, upright, mirrored or turned, is `min_cosine` so much.

    Of thousands that all look alike, each is paired with some of those before it.
    """
    units = normalize_hashes(hashes)
    keys = _lsh_keys(units)
    partners = np.where(units.any(axis=1), 0, _MAX_PARTNERS)  # a plain surface is like nothing
    found = [
        _pairs_in_orientation(units, keys, orientation, partners, min_cosine)
        for orientation in range(len(ORIENTATION_INDICES))
    ]
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.lexsort((-cosine, second, first))
    first, second, cosine = first[best], second[best], cosine[best]
    new = np.ones(len(first), bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return SimilarPairs(first[new], second[new], cosine[new])


def _lsh_keys(units: np.ndarray) -> np.ndarray:
    """Cut every fingerprint in every orientation: uint16 (8, n, 48)."""
    planes = np.random.default_rng(0).standard_normal((HASH_LENGTH, _LSH_TABLES * _LSH_BITS)).astype(np.float32)
    keys = np.empty((len(ORIENTATION_INDICES), len(units), _LSH_TABLES), np.uint16)
    for start in range(0, len(units), 4096):
        some = units[start : start + 4096]
        for orientation in range(len(ORIENTATION_INDICES)):
            sides = np.packbits(reorient_hashes(some, orientation) @ planes > 0, axis=1)
            keys[orientation, start : start + 4096] = sides.view(np.uint16)
    return keys


def _pairs_in_orientation(
    units: np.ndarray, keys: np.ndarray, orientation: int, partners: np.ndarray, min_cosine: float
) -> SimilarPairs:
    """Find the pairs whose second is turned so; partners (n,), how many each has as a second, is kept up to date."""
    n = len(units)
    codes, cosines = np.empty(0, np.int64), np.empty(0, np.float32)  # first * n + second, in order
    for key in range(_LSH_TABLES):
        asking = np.flatnonzero(partners < _MAX_PARTNERS)
        for first, asked in _bucket_matches(keys[0, :, key], keys[orientation, asking, key]):
            second = asking[asked]
            met = (first < second) & (
                _hamming_distances(keys[0, first], keys[orientation, second]) <= _MAX_HAMMING_DISTANCE
            )
            code = np.sort(first[met] * n + second[met])
            known = np.searchsorted(codes, code, "right") > np.searchsorted(codes, code, "left")
            code = code[~known]
            cosine = _cosine_similarities(units, code // n, code % n, orientation)
            code, cosine = code[cosine >= min_cosine], cosine[cosine >= min_cosine]
            partners += np.bincount(code % n, minlength=n)
            place = np.searchsorted(codes, code)
            codes, cosines = np.insert(codes, place, code), np.insert(cosines, place, cosine)
    return SimilarPairs(codes // n, codes % n, cosines)


def _bucket_matches(keys: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Join uint16 (n,) with uint16 (n,) where they are equal: indices into both, in portions."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    low, high = (np.searchsorted(ordered, others, side) for side in ("left", "right"))
    met = np.minimum(high - low, _MAX_BUCKET_MATCHES)
    ends = np.cumsum(met)
    cuts = (
        np.searchsorted(ends, np.arange(_PAIRS_PER_CHUNK, int(ends[-1]), _PAIRS_PER_CHUNK))
        if len(ends)
        else np.empty(0, int)
    )
    for some in np.split(np.arange(len(others)), np.unique(cuts)):
        second = np.repeat(some, met[some])
        step = np.arange(len(second)) - np.repeat(np.cumsum(met[some]) - met[some], met[some])
        place = low[second] + step * (high - low)[second] // np.maximum(met[second], 1)
        yield order[place], second


def _hamming_distances(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Count differing bits of uint16 (m, 48) and (m, 48): (m,)."""
    counts: np.ndarray = _POPCOUNT[keys ^ others].sum(axis=1, dtype=np.int32)
    return counts


def _cosine_similarities(units: np.ndarray, first: np.ndarray, second: np.ndarray, orientation: int) -> np.ndarray:
    size = 1 << 14
    parts = [
        (units[first[at : at + size]] * reorient_hashes(units[second[at : at + size]], orientation)).sum(axis=1)
        for at in range(0, len(first), size)
    ]
    return np.concatenate([np.empty(0, np.float32), *parts])
