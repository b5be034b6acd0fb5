"""Finding like pictures by keys gives the pairs that comparing each with each would."""

import numpy as np
import pytest

from mnsa.data.check import alike
from mnsa.data.check.alike import like_pairs
from mnsa.data.check.fingerprint import ALIKE, SIGNS, F, normalised, turned

RNG = np.random.default_rng(0)


def steps(vectors: np.ndarray) -> np.ndarray:
    return np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)


def with_copies(count: int, copies: int) -> np.ndarray:
    """Fingerprints that share a look; the last ones are copies of the first, changed a little and turned."""
    vectors = RNG.standard_normal((count, F)) + 0.7 * RNG.standard_normal(F)
    for n in range(copies):
        copy = turned(vectors[n : n + 1], n % len(SIGNS))
        vectors[count - copies + n] = copy + RNG.uniform(0.05, 0.3) * RNG.standard_normal(F)
    return steps(vectors)


def each_with_each(fingerprints: np.ndarray) -> dict[tuple[int, int], float]:
    units = normalised(fingerprints)
    cosines = np.max([units @ turned(units, turn).T for turn in range(len(SIGNS))], axis=0)
    first, second = np.nonzero(np.triu(cosines >= ALIKE, 1))
    return {(int(a), int(b)): float(cosines[a, b]) for a, b in zip(first, second, strict=True)}


def test_the_pairs_are_those_of_comparing_each_with_each() -> None:
    fingerprints = with_copies(400, 120)
    found = like_pairs(fingerprints)
    expected = each_with_each(fingerprints)
    assert len(expected) == 120
    assert dict(zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.cosine, strict=True)) == (
        pytest.approx(expected, abs=1e-5)
    )


def test_it_does_not_matter_in_how_many_portions_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = with_copies(60, 20)
    whole = like_pairs(fingerprints)
    monkeypatch.setattr(alike, "_AT_ONCE", 7)
    assert all(np.array_equal(a, b) for a, b in zip(whole, like_pairs(fingerprints), strict=True))


def test_of_very_many_like_pictures_each_still_meets_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_MOST_MEETINGS", 4)
    monkeypatch.setattr(alike, "_ENOUGH", 3)
    crowd = steps(RNG.standard_normal(F) + 0.1 * RNG.standard_normal((200, F)))
    found = like_pairs(crowd)
    assert len(found.first) < 200 * (3 + 4)
    assert set(found.first.tolist()) | set(found.second.tolist()) == set(range(200))


def test_plain_surfaces_and_nothing_at_all_are_like_nothing() -> None:
    assert len(like_pairs(np.zeros((5, F), np.int8)).first) == 0
    assert len(like_pairs(np.zeros((0, F), np.int8)).first) == 0
