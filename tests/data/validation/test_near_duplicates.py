"""The hash of a changed copy is similar to the original's; the hashes of other leaves of the cultivar are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from mnsa.data.synthetic.generate import draw_leaf
from mnsa.data.synthetic.leaf_shape import make_cultivar
from mnsa.data.validation import near_duplicates
from mnsa.data.validation.near_duplicates import (
    HASH_LENGTH,
    NEAR_DUPLICATE_COSINE,
    ORIENTATION_SIGNS,
    find_similar_pairs,
    normalize_hashes,
    perceptual_hash,
    reorient_hashes,
)

Change = Callable[[Image.Image], Image.Image]


TRANSPOSITIONS = len(ORIENTATION_SIGNS)


REORIENT_IMAGE: list[Change] = [
    lambda image: image,
    ImageOps.mirror,
    ImageOps.flip,
    lambda image: image.rotate(180),
    lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    lambda image: image.rotate(90),
    lambda image: image.rotate(270),
]


@pytest.fixture(scope="module")
def leaf_images() -> list[Image.Image]:
    """Sixty leaves of one cultivar, 64 px: the most similar images that are no copies."""
    cultivar = make_cultivar(3, 0)
    return [Image.fromarray(draw_leaf(cultivar, np.random.default_rng(n), 64).image) for n in range(60)]


def hash_all(images: list[Image.Image]) -> np.ndarray:
    return normalize_hashes(np.stack([perceptual_hash(image) for image in images]))


@pytest.fixture(scope="module")
def leaf_hashes(leaf_images: list[Image.Image]) -> np.ndarray:
    return hash_all(leaf_images)


def recompress(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=50)
    return Image.open(content)


def best_cosines(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cosine of each pair in its best orientation."""
    cosines: np.ndarray = np.max(
        [(hashes * reorient_hashes(others, n)).sum(axis=1) for n in range(TRANSPOSITIONS)], axis=0
    )
    return cosines


@pytest.mark.parametrize(
    "change",
    [
        recompress,
        lambda image: image.resize((32, 32), Image.Resampling.BICUBIC),
        lambda image: image.resize((90, 75), Image.Resampling.BICUBIC),
        lambda image: ImageOps.mirror(recompress(image)),
        lambda image: image.point(lambda value: value * 0.8),
        lambda image: image.convert("L"),
        *REORIENT_IMAGE,
    ],
)
def test_a_changed_copy_is_a_near_duplicate(
    leaf_images: list[Image.Image], leaf_hashes: np.ndarray, change: Change
) -> None:
    copies = hash_all([change(image) for image in leaf_images])
    assert best_cosines(leaf_hashes, copies).min() >= NEAR_DUPLICATE_COSINE


def test_two_leaves_of_a_cultivar_are_no_near_duplicates(leaf_hashes: np.ndarray) -> None:
    for orientation in range(TRANSPOSITIONS):
        cosines = leaf_hashes @ reorient_hashes(leaf_hashes, orientation).T
        assert np.max(cosines - 2 * np.eye(len(leaf_hashes))) < NEAR_DUPLICATE_COSINE - 0.01


def test_reorienting_a_hash_equals_hashing_the_reoriented_image(
    leaf_images: list[Image.Image], leaf_hashes: np.ndarray
) -> None:
    of_images = hash_all([reorient(leaf_images[7]) for reorient in REORIENT_IMAGE])
    of_hashes = np.concatenate([reorient_hashes(leaf_hashes[7:8], n) for n in range(TRANSPOSITIONS)])
    cosines = of_images @ of_hashes.T
    assert sorted(cosines.argmax(axis=1)) == list(range(8))
    assert cosines.max(axis=1).min() > 0.995


def test_an_image_of_one_color_has_a_hash_of_zeros() -> None:
    assert not perceptual_hash(Image.new("RGB", (50, 40), (9, 200, 30))).any()
    assert perceptual_hash(Image.new("1", (1, 1))).shape == (HASH_LENGTH,)


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
