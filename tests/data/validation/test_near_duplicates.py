"""Searching pairs by keys finds the pairs that comparing all images finds."""

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
ORIENTATIONS = len(ORIENTATION_SIGNS)


def quantize(vectors: np.ndarray) -> np.ndarray:
    quantized: np.ndarray = np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True)))
    return quantized.astype(np.int8)


def hashes_with_copies(count: int, copies: int) -> np.ndarray:
    """Hashes with something in common; the last ones are noisy copies of the first ones in all orientations."""
    vectors = RNG.standard_normal((count, HASH_LENGTH)) + 0.7 * RNG.standard_normal(HASH_LENGTH)
    for n in range(copies):
        copy = reorient_hashes(vectors[n : n + 1], n % ORIENTATIONS)
        vectors[count - copies + n] = copy + RNG.uniform(0.05, 0.3) * RNG.standard_normal(HASH_LENGTH)
    return quantize(vectors)


def compare_all(hashes: np.ndarray) -> dict[tuple[int, int], float]:
    """The cosine of each similar pair, by comparing all hashes in all orientations."""
    units = normalize_hashes(hashes)
    cosines = np.max([units @ reorient_hashes(units, n).T for n in range(ORIENTATIONS)], axis=0)
    first, second = np.nonzero(np.triu(cosines >= NEAR_DUPLICATE_COSINE, 1))
    return {(int(a), int(b)): float(cosines[a, b]) for a, b in zip(first, second, strict=True)}


def test_the_pairs_are_those_of_comparing_all_images() -> None:
    hashes = hashes_with_copies(400, 120)
    found = find_similar_pairs(hashes)
    expected = compare_all(hashes)
    assert len(expected) == 120
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    assert dict(zip(pairs, found.cosine, strict=True)) == pytest.approx(expected, abs=1e-5)


def test_the_pairs_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = hashes_with_copies(60, 20)
    expected = find_similar_pairs(hashes)
    monkeypatch.setattr(near_duplicates, "_PAIRS_PER_CHUNK", 7)
    monkeypatch.setattr(near_duplicates, "_COSINES_PER_CHUNK", 2)
    assert all(np.array_equal(a, b) for a, b in zip(expected, find_similar_pairs(hashes), strict=True))


def test_each_of_very_many_similar_images_is_still_paired_with_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_MAX_BUCKET_MATCHES", 4)
    monkeypatch.setattr(near_duplicates, "_MAX_PARTNERS", 3)
    hashes = quantize(RNG.standard_normal(HASH_LENGTH) + 0.1 * RNG.standard_normal((200, HASH_LENGTH)))
    found = find_similar_pairs(hashes)
    assert len(found.first) < 200 * (3 + 4)
    assert set(found.first.tolist()) | set(found.second.tolist()) == set(range(200))


@pytest.mark.parametrize("count", [0, 5])
def test_images_of_one_color_have_no_similar_images(count: int) -> None:
    assert len(find_similar_pairs(np.zeros((count, HASH_LENGTH), np.int8)).first) == 0
