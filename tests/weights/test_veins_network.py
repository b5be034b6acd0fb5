"""The veins network of the package: it finds veins that it has not seen, and says when there are none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import mnsa
from mnsa.data.decode import read_mask_indices
from mnsa.data.synthetic import synthesize
from mnsa.inference.predictor import Predictor
from mnsa.weights import FOLDER, VEINS, WEIGHTS_FILE
from narrowing import some

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (FOLDER / VEINS / WEIGHTS_FILE).is_file(), reason="this installation has no such weights"),
]


@pytest.fixture(scope="module")
def veins() -> Predictor:
    return mnsa.load("veins")


def paper() -> np.ndarray:
    return np.full((600, 800, 3), 245.0)


def grain() -> np.ndarray:
    return 235 + np.random.default_rng(1).normal(0, 4, (600, 800, 3))


def noise() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (600, 800, 3)).astype(float)


def wall_of_text() -> np.ndarray:
    image = Image.new("RGB", (1000, 800), "white")
    for line in range(22):
        words = " ".join("leaf vein areole midrib blade"[shift:] for shift in range(line % 5, line % 5 + 6))
        ImageDraw.Draw(image).text((10, 10 + 35 * line), words, fill="black", font=ImageFont.load_default(26))
    return np.asarray(image, dtype=float)


@pytest.mark.parametrize("draw", [paper, grain, noise, wall_of_text])
def test_an_image_without_a_leaf_has_a_warning(veins: Predictor, draw: Callable[[], np.ndarray]) -> None:
    assert veins.predict(draw().clip(0, 255).astype(np.uint8)).warning


def test_the_veins_of_drawn_leaves_are_found_at_any_size(veins: Predictor, tmp_path: Path) -> None:
    synthesize(tmp_path / "leaves", cultivars=2, per_cultivar=5, size_px=384, seed=99, workers=1)
    path = sorted((tmp_path / "leaves" / "images").iterdir())[0]
    truth = read_mask_indices(tmp_path / "leaves" / "vein_masks" / f"{path.stem}.png", 1) == 1
    for factor in (1, 3):
        with Image.open(path) as image:
            large = np.asarray(image.resize((384 * factor, 384 * factor), Image.Resampling.BICUBIC))
        mask = some(veins.predict(large).mask) == 1
        expected = truth.repeat(factor, 0).repeat(factor, 1)
        assert np.count_nonzero(mask & expected) > 0.3 * np.count_nonzero(mask | expected)
