"""A fingerprint knows a leaf again after what happens to copies, and tells it from all its sisters."""

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

TURNS: list[Callable[[Image.Image], Image.Image]] = [
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
def sisters() -> list[Image.Image]:
    """Sixty leaves of one cultivar, 64 px: the hardest to tell apart."""
    cultivar = make_cultivar(3, 0)
    return [Image.fromarray(draw_leaf(cultivar, np.random.default_rng(n), 64).image) for n in range(60)]


@pytest.fixture(scope="module")
def prints(sisters: list[Image.Image]) -> np.ndarray:
    return normalize_hashes(np.stack([perceptual_hash(leaf) for leaf in sisters]))


def recompressed(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=50)
    return Image.open(content)


def likeness(prints: np.ndarray, changed: list[Image.Image]) -> np.ndarray:
    """The cosine of each leaf and its changed copy, in the turn that suits best."""
    others = normalize_hashes(np.stack([perceptual_hash(image) for image in changed]))
    return np.max(
        [(prints * reorient_hashes(others, turn)).sum(axis=1) for turn in range(len(ORIENTATION_SIGNS))], axis=0
    )


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda image: image.resize((32, 32), Image.Resampling.BICUBIC),
        lambda image: image.resize((90, 75), Image.Resampling.BICUBIC),
        lambda image: ImageOps.mirror(recompressed(image)),
        lambda image: image.point(lambda value: value * 0.8),
        lambda image: image.convert("L"),
        *TURNS,
    ],
)
def test_a_copy_is_known_again(sisters: list[Image.Image], prints: np.ndarray, change: Callable) -> None:
    assert likeness(prints, [change(leaf) for leaf in sisters]).min() >= NEAR_DUPLICATE_COSINE


def test_no_leaf_is_taken_for_its_sister(prints: np.ndarray) -> None:
    for turn in range(len(ORIENTATION_SIGNS)):
        cosines = prints @ reorient_hashes(prints, turn).T
        assert np.max(cosines - 2 * np.eye(len(prints))) < NEAR_DUPLICATE_COSINE - 0.01


def test_turning_a_fingerprint_is_turning_the_picture(sisters: list[Image.Image], prints: np.ndarray) -> None:
    leaf = sisters[7]
    of_turned = normalize_hashes(np.stack([perceptual_hash(turn(leaf)) for turn in TURNS]))
    turned_prints = np.concatenate([reorient_hashes(prints[7:8], turn) for turn in range(len(ORIENTATION_SIGNS))])
    best = (of_turned @ turned_prints.T).argmax(axis=1)
    assert sorted(best) == list(range(8))
    assert (of_turned @ turned_prints.T).max(axis=1).min() > 0.995


def test_a_plain_surface_has_no_fingerprint() -> None:
    assert not perceptual_hash(Image.new("RGB", (50, 40), (9, 200, 30))).any()
    assert perceptual_hash(Image.new("1", (1, 1))).shape == (HASH_LENGTH,)
