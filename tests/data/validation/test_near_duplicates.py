"""Finding like pictures by keys gives the pairs that comparing each with each would."""

import numpy as np
import pytest

from mnsa.data.validation import near_duplicates
from mnsa.data.validation.near_duplicates import find_similar_pairs
from mnsa.data.validation.perceptual_hash import (
    HASH_LENGTH,
    NEAR_DUPLICATE_COSINE,
    ORIENTATION_SIGNS,
    normalize_hashes,
    reorient_hashes,
)

RNG = np.random.default_rng(0)


def steps(vectors: np.ndarray) -> np.ndarray:
    return np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)


def with_copies(count: int, copies: int) -> np.ndarray:
    """Fingerprints that share a look; the last ones are copies of the first, changed a little and turned."""
    vectors = RNG.standard_normal((count, HASH_LENGTH)) + 0.7 * RNG.standard_normal(HASH_LENGTH)
    for n in range(copies):
        copy = reorient_hashes(vectors[n : n + 1], n % len(ORIENTATION_SIGNS))
        vectors[count - copies + n] = copy + RNG.uniform(0.05, 0.3) * RNG.standard_normal(HASH_LENGTH)
    return steps(vectors)


def each_with_each(hashes: np.ndarray) -> dict[tuple[int, int], float]:
    units = normalize_hashes(hashes)
    cosines = np.max(
        [units @ reorient_hashes(units, orientation).T for orientation in range(len(ORIENTATION_SIGNS))], axis=0
    )
    first, second = np.nonzero(np.triu(cosines >= NEAR_DUPLICATE_COSINE, 1))
    return {(int(a), int(b)): float(cosines[a, b]) for a, b in zip(first, second, strict=True)}


def test_the_pairs_are_those_of_comparing_each_with_each() -> None:
    hashes = with_copies(400, 120)
    found = find_similar_pairs(hashes)
    expected = each_with_each(hashes)
    assert len(expected) == 120
    assert dict(zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.cosine, strict=True)) == (
        pytest.approx(expected, abs=1e-5)
    )


def test_it_does_not_matter_in_how_many_portions_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = with_copies(60, 20)
    whole = find_similar_pairs(hashes)
    monkeypatch.setattr(near_duplicates, "_PAIRS_PER_CHUNK", 7)
    assert all(np.array_equal(a, b) for a, b in zip(whole, find_similar_pairs(hashes), strict=True))


def test_of_very_many_like_pictures_each_still_meets_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_MAX_BUCKET_MATCHES", 4)
    monkeypatch.setattr(near_duplicates, "_MAX_PARTNERS", 3)
    crowd = steps(RNG.standard_normal(HASH_LENGTH) + 0.1 * RNG.standard_normal((200, HASH_LENGTH)))
    found = find_similar_pairs(crowd)
    assert len(found.first) < 200 * (3 + 4)
    assert set(found.first.tolist()) | set(found.second.tolist()) == set(range(200))


def test_plain_surfaces_and_nothing_at_all_are_like_nothing() -> None:
    assert len(find_similar_pairs(np.zeros((5, HASH_LENGTH), np.int8)).first) == 0
    assert len(find_similar_pairs(np.zeros((0, HASH_LENGTH), np.int8)).first) == 0
