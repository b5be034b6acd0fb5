"""A confidence that needs no truth, and a warning where there are no veins or none can be seen."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnsa.inference.vein_check import NO_LEAF, NOT_VISIBLE, check_veins, expected_dice


def drawing(lines: list[list[tuple[int, int]]], value: int, width: int = 3) -> np.ndarray:
    image = Image.new("L", (256, 256))
    for line in lines:
        ImageDraw.Draw(image).line(line, fill=value, width=width)
    return np.asarray(image)


MIDRIB = [(128, 10), (128, 245)]
LEAF = [MIDRIB, *([(128, y), (128 + side * 80, y - 50)] for y in range(60, 240, 30) for side in (-1, 1))]
TEXT = [[(x, y), (x + 8, y + 12)] for x in range(10, 240, 15) for y in range(10, 240, 20)]


def test_the_expected_dice_is_the_mean_dice_over_truths_that_are_drawn_from_the_probabilities() -> None:
    random = np.random.default_rng(3)
    probs = random.beta(0.4, 0.6, (200, 200))
    mask = probs > 0.5
    scores = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in random.random((50, 200, 200)) < probs]
    counts = np.bincount((probs * 255).round().astype(np.uint8).ravel(), minlength=256)
    assert expected_dice(counts, 0.5) == pytest.approx(np.mean(scores), abs=0.005)


def test_an_empty_mask_expects_nothing() -> None:
    assert expected_dice(np.bincount([100] * 5, minlength=256), 0.5) == 0
    assert expected_dice(np.zeros(256, np.int64), 0.5) == 0


def test_a_clear_leaf_has_a_high_confidence_and_no_warning() -> None:
    confidence, warning = check_veins(drawing(LEAF, 250), 0.5)
    assert confidence > 0.95
    assert warning == ""


@pytest.mark.parametrize("lines", [[], [[(20, 20), (60, 60)]]])
def test_without_lines_there_is_no_leaf(lines: list[list[tuple[int, int]]]) -> None:
    assert check_veins(drawing(lines, 250), 0.5)[1] == NO_LEAF


def test_lines_that_the_network_is_not_sure_of_are_not_visible() -> None:
    confidence, warning = check_veins(drawing(LEAF, 135) + drawing([], 0) + np.uint8(60), 0.7)
    assert (confidence < 0.5, warning) == (True, NOT_VISIBLE)


def test_many_short_lines_such_as_letters_are_no_veins() -> None:
    assert check_veins(drawing(TEXT, 250), 0.5)[1] == NOT_VISIBLE
