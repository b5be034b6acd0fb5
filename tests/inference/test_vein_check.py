"""A confidence that needs no truth, and a warning where there are no veins or none can be seen."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnsa.inference.vein_check import NO_LEAF, NOT_VISIBLE, VeinCounts, check_veins, count_veins


def drawing(lines: list[list[tuple[int, int]]], value: int, width: int = 3) -> np.ndarray:
    image = Image.new("L", (256, 256))
    for line in lines:
        ImageDraw.Draw(image).line(line, fill=value, width=width)
    return np.asarray(image)


def check(probs: np.ndarray, threshold: float = 0.5) -> tuple[float, str]:
    return check_veins(count_veins(probs, threshold))


MIDRIB = [(128, 10), (128, 245)]
LEAF = [MIDRIB, *([(128, y), (128 + side * 80, y - 50)] for y in range(60, 240, 30) for side in (-1, 1))]
TEXT = [[(x, y), (x + 8, y + 12)] for x in range(10, 240, 15) for y in range(10, 240, 20)]


def test_the_expected_dice_is_the_mean_dice_over_truths_that_are_drawn_from_the_probabilities() -> None:
    random = np.random.default_rng(3)
    probs = random.beta(0.4, 0.6, (200, 200))
    mask = probs > 0.5
    scores = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in random.random((50, 200, 200)) < probs]
    counts = count_veins((probs * 255).round().astype(np.uint8), 0.5)
    assert counts.expected_dice == pytest.approx(np.mean(scores), abs=0.005)
    assert counts.area == pytest.approx(mask.mean(), abs=0.005)


def test_an_empty_mask_expects_nothing() -> None:
    assert count_veins(np.full((20, 20), 100, np.uint8), 0.5).expected_dice == 0


def test_the_counts_of_windows_add_up() -> None:
    left, right = drawing(LEAF, 250), drawing(TEXT, 200)
    total: VeinCounts = count_veins(left, 0.5) + count_veins(right, 0.5)
    both = np.concatenate([left, np.zeros((256, 8), np.uint8), right], axis=1)
    whole = count_veins(both, 0.5)
    assert (total.lines, total.connected) == (whole.lines, whole.connected)
    assert total.expected_dice == pytest.approx(whole.expected_dice)


def test_a_clear_leaf_has_a_high_confidence_and_no_warning() -> None:
    confidence, warning = check(drawing(LEAF, 250))
    assert confidence > 0.95
    assert warning == ""


@pytest.mark.parametrize("lines", [[], [[(20, 20), (60, 60)]]])
def test_without_lines_there_is_no_leaf(lines: list[list[tuple[int, int]]]) -> None:
    assert check(drawing(lines, 250))[1] == NO_LEAF


def test_lines_that_the_network_is_not_sure_of_are_not_visible() -> None:
    confidence, warning = check(drawing(LEAF, 135) + np.uint8(60), 0.7)
    assert (confidence < 0.5, warning) == (True, NOT_VISIBLE)


def test_many_short_lines_such_as_letters_are_no_veins() -> None:
    assert check(drawing(TEXT, 250))[1] == NOT_VISIBLE


def test_a_page_that_is_covered_as_a_whole_is_no_leaf() -> None:
    lines = [[(x, 0), (x, 255)] for x in range(0, 256, 8)]
    assert check(drawing(lines, 250, width=6))[1] == NO_LEAF
