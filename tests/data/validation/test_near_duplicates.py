"""The hash of a changed copy is similar to the original's; the hashes of other leaves of the cultivar are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from mnsa.data.synthetic.drawn_leaf import draw_leaf
from mnsa.data.synthetic.leaf_shape import make_cultivar
from mnsa.data.validation.perceptual_hash import (
    HASH_LENGTH,
    NEAR_DUPLICATE_COSINE,
    ORIENTATION_SIGNS,
    normalize_hashes,
    perceptual_hash,
    reorient_hashes,
)

Change = Callable[[Image.Image], Image.Image]

ORIENTATIONS = len(ORIENTATION_SIGNS)

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
        [(hashes * reorient_hashes(others, n)).sum(axis=1) for n in range(ORIENTATIONS)], axis=0
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
    for orientation in range(ORIENTATIONS):
        cosines = leaf_hashes @ reorient_hashes(leaf_hashes, orientation).T
        assert np.max(cosines - 2 * np.eye(len(leaf_hashes))) < NEAR_DUPLICATE_COSINE - 0.01


def test_reorienting_a_hash_equals_hashing_the_reoriented_image(
    leaf_images: list[Image.Image], leaf_hashes: np.ndarray
) -> None:
    of_images = hash_all([reorient(leaf_images[7]) for reorient in REORIENT_IMAGE])
    of_hashes = np.concatenate([reorient_hashes(leaf_hashes[7:8], n) for n in range(ORIENTATIONS)])
    cosines = of_images @ of_hashes.T
    assert sorted(cosines.argmax(axis=1)) == list(range(8))
    assert cosines.max(axis=1).min() > 0.995


def test_an_image_of_one_color_has_a_hash_of_zeros() -> None:
    assert not perceptual_hash(Image.new("RGB", (50, 40), (9, 200, 30))).any()
    assert perceptual_hash(Image.new("1", (1, 1))).shape == (HASH_LENGTH,)
