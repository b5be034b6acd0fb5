"""Pairs of like pictures among many, without comparing each with each.

A fingerprint is cut by random planes through zero; the sides it lies on are bits, and two fingerprints differ in a bit
with the probability angle / 180 degrees (Charikar 2002). 16 bits make a key. Pictures that share one of 48 keys meet:
two that are only just alike (0.94) do so with a probability of 0.999, two that have nothing in common with one of
0.0007. So the work grows with the number of pictures, and no faster until tens of thousands share a look.
n pictures; F numbers in a fingerprint.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mnsa.data.check.fingerprint import ALIKE, PLACES, F, normalised, turned

_KEYS, _KEY_BITS = 48, 16
_MOST_BITS_APART = 130  # of 768: at 0.94 it is 85 +- 9
_MOST_MEETINGS = 256  # of one picture at one key: thousands of like pictures need not all meet each other
_ENOUGH = 64  # partners, after which a picture asks no more
_AT_ONCE = 1 << 18  # pairs held in memory
_BITS_SET = np.array([bin(number).count("1") for number in range(1 << _KEY_BITS)], np.uint8)


class Pairs(NamedTuple):
    """Like pictures: the first's index, the second's, which is larger, and their cosine; each (m,)."""

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray


def like_pairs(fingerprints: np.ndarray, *, at_least: float = ALIKE) -> Pairs:
    """Find the pairs among int8 (n, F) whose cosine, upright, mirrored or turned, is `at_least` so much.

    Of thousands that all look alike, each is paired with some of those before it.
    """
    units = normalised(fingerprints)
    keys = _keys(units)
    partners = np.where(units.any(axis=1), 0, _ENOUGH)  # a plain surface is like nothing
    found = [_turned_pairs(units, keys, turn, partners, at_least) for turn in range(len(PLACES))]
    first, second, cosine = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.lexsort((-cosine, second, first))
    first, second, cosine = first[best], second[best], cosine[best]
    new = np.ones(len(first), bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return Pairs(first[new], second[new], cosine[new])


def _keys(units: np.ndarray) -> np.ndarray:
    """Cut every fingerprint in every turn: uint16 (8, n, 48)."""
    planes = np.random.default_rng(0).standard_normal((F, _KEYS * _KEY_BITS)).astype(np.float32)
    keys = np.empty((len(PLACES), len(units), _KEYS), np.uint16)
    for start in range(0, len(units), 4096):
        some = units[start : start + 4096]
        for turn in range(len(PLACES)):
            sides = np.packbits(turned(some, turn) @ planes > 0, axis=1)
            keys[turn, start : start + 4096] = sides.view(np.uint16)
    return keys


def _turned_pairs(units: np.ndarray, keys: np.ndarray, turn: int, partners: np.ndarray, at_least: float) -> Pairs:
    """Find the pairs whose second is turned so; partners (n,), how many each has as a second, is kept up to date."""
    n = len(units)
    codes, cosines = np.empty(0, np.int64), np.empty(0, np.float32)  # first * n + second, in order
    for key in range(_KEYS):
        asking = np.flatnonzero(partners < _ENOUGH)
        for first, asked in _meetings(keys[0, :, key], keys[turn, asking, key]):
            second = asking[asked]
            met = (first < second) & (_bits_apart(keys[0, first], keys[turn, second]) <= _MOST_BITS_APART)
            code = np.sort(first[met] * n + second[met])
            known = np.searchsorted(codes, code, "right") > np.searchsorted(codes, code, "left")
            code = code[~known]
            cosine = _cosines(units, code // n, code % n, turn)
            code, cosine = code[cosine >= at_least], cosine[cosine >= at_least]
            partners += np.bincount(code % n, minlength=n)
            place = np.searchsorted(codes, code)
            codes, cosines = np.insert(codes, place, code), np.insert(cosines, place, cosine)
    return Pairs(codes // n, codes % n, cosines)


def _meetings(keys: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Join uint16 (n,) with uint16 (n,) where they are equal: indices into both, in portions."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    low, high = (np.searchsorted(ordered, others, side) for side in ("left", "right"))
    met = np.minimum(high - low, _MOST_MEETINGS)
    ends = np.cumsum(met)
    cuts = np.searchsorted(ends, np.arange(_AT_ONCE, int(ends[-1]), _AT_ONCE)) if len(ends) else np.empty(0, int)
    for some in np.split(np.arange(len(others)), np.unique(cuts)):
        second = np.repeat(some, met[some])
        step = np.arange(len(second)) - np.repeat(np.cumsum(met[some]) - met[some], met[some])
        place = low[second] + step * (high - low)[second] // np.maximum(met[second], 1)
        yield order[place], second


def _bits_apart(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Count differing bits of uint16 (m, 48) and (m, 48): (m,)."""
    counts: np.ndarray = _BITS_SET[keys ^ others].sum(axis=1, dtype=np.int32)
    return counts


def _cosines(units: np.ndarray, first: np.ndarray, second: np.ndarray, turn: int) -> np.ndarray:
    size = 1 << 14
    parts = [
        (units[first[at : at + size]] * turned(units[second[at : at + size]], turn)).sum(axis=1)
        for at in range(0, len(first), size)
    ]
    return np.concatenate([np.empty(0, np.float32), *parts])
