"""Masks are made of probabilities by a threshold, hysteresis, and the removal of small holes and pieces."""

from typing import Any

import numpy as np
import pytest
import torch
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import reconstruction, remove_small_holes, remove_small_objects
from torch.nn import functional as F

from mnsa.config import DataConfig
from mnsa.inference.postprocessing import (
    ClassPostprocessing,
    MaskMaker,
    Postprocessing,
    ProbabilityMaker,
    fill_small_holes,
    remove_small_pieces,
    surrounding_class,
)
from mnsa.model.heads import mask_from_logits

VEIN, THREE = ("vein",), ("background", "leaf", "vein")


def maker(names: tuple[str, ...] = VEIN, *, mode: Any = "crop", size: Any = (64, 64), **values: Any) -> MaskMaker:
    return MaskMaker(Postprocessing(**values), names, DataConfig(size=size, resize_mode=mode))


def smooth_logits(channels: int, side: int = 64, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(1, channels, side + 8, side + 8, generator=torch.Generator().manual_seed(seed))
    return 8 * F.avg_pool2d(noise, 5, 1)[0, :, :side, :side]


def from_text(text: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in text.split()])


@pytest.mark.parametrize("classes", [VEIN, THREE])
@pytest.mark.parametrize("mode", ["crop", "resize"])
def test_by_default_a_pixel_gets_its_most_probable_class(classes: tuple[str, ...], mode: str) -> None:
    logits = smooth_logits(len(classes))
    made, size = maker(classes, mode=mode), (50, 60)
    resized = logits[:, :50, :60] if mode == "crop" else F.interpolate(logits[None], size, mode="bilinear")[0]
    maps = made.decide_at_size(logits, size)
    assert maps.shape == (1, 50, 60)
    np.testing.assert_array_equal(made.finish(maps), mask_from_logits(resized[None])[0])
    probs = logits.sigmoid() if len(classes) == 1 else logits.softmax(0)
    assert torch.equal(made.decide_probs(probs), mask_from_logits(logits[None]))


@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.5, 0.83])
def test_the_threshold_is_a_probability(threshold: float) -> None:
    logits = smooth_logits(1).double()
    expected = logits[0].sigmoid() > threshold
    made = maker(threshold=threshold)
    assert torch.equal(made.decide_logits(logits)[0].bool(), expected)
    assert torch.equal(made.decide_probs(logits.sigmoid())[0].bool(), expected)


def test_the_bias_is_added_to_the_logits() -> None:
    logits, bias = smooth_logits(3), (0.0, -1.0, 0.7)
    expected = (logits + torch.tensor(bias)[:, None, None]).argmax(0)
    made = maker(THREE, bias=bias)
    assert torch.equal(made.decide_logits(logits)[0].long(), expected)
    assert torch.equal(made.decide_probs(logits.softmax(0))[0].long(), expected)
    assert not torch.equal(expected, logits.argmax(0))


def test_hysteresis_equals_reconstruction_by_dilation() -> None:
    probs = smooth_logits(1).sigmoid()
    made = maker(threshold=0.7, classes={"vein": ClassPostprocessing(low_threshold=0.4)})
    maps = made.decide_probs(probs)
    strong, mask = probs[0].numpy() > 0.7, made.finish(maps).astype(bool)
    candidates = strong | (maps[1].numpy() > 0.4 * 255)
    np.testing.assert_array_equal(mask, reconstruction(strong, candidates, footprint=np.ones((3, 3))))
    assert strong.sum() < mask.sum() < candidates.sum()
    # scikit-image's own hysteresis connects 4-neighbors only
    four = apply_hysteresis_threshold(np.where(strong, 300.0, maps[1].numpy()), 0.4 * 255, 299)
    assert (four & ~mask).sum() == 0


@pytest.mark.parametrize("area", [0, 1, 2, 7, 40])
def test_small_pieces_and_holes_are_those_of_scikit_image(area: int) -> None:
    mask = smooth_logits(1)[0].numpy() > 0.5
    inside = np.pad(mask, 1, constant_values=True)  # no background touches the border
    removed = remove_small_objects(mask, max_size=max(0, area - 1), connectivity=2)
    np.testing.assert_array_equal(remove_small_pieces(mask, area), removed)
    filled = remove_small_holes(inside, max_size=max(0, area - 1), connectivity=1)
    np.testing.assert_array_equal(fill_small_holes(inside, area), filled)


def test_background_at_the_border_is_no_hole() -> None:
    mask = from_text("##.## #...# ##### #.### #####")
    np.testing.assert_array_equal(fill_small_holes(mask, 99), mask | from_text("..... ..... ..... .#... ....."))


def test_a_removed_piece_gets_the_class_around_it() -> None:
    mask = np.ones((20, 30), np.uint8)
    mask[:, 20:] = 0
    mask[5, 5:8], mask[10, 25:27], mask[:, 12] = 2, 2, 2
    made = maker(THREE, classes={"vein": ClassPostprocessing(min_area_px=4)})
    maps = np.stack([mask, np.zeros_like(mask)])
    expected = np.where(np.arange(30) < 20, 1, 0) * np.ones((20, 1))
    expected[:, 12] = 2
    np.testing.assert_array_equal(made.finish(torch.from_numpy(maps)), expected)


def test_a_piece_that_fills_the_image_becomes_background() -> None:
    full = np.ones((4, 4), np.uint8)
    np.testing.assert_array_equal(surrounding_class(full, full == 1), np.zeros((4, 4)))


def test_other_classes_are_untouched() -> None:
    """The specks of lesions stay when only veins are refined."""
    logits = smooth_logits(3)
    plain = maker(THREE)
    refined = maker(THREE, classes={"vein": ClassPostprocessing(low_threshold=0.2, min_area_px=9)})
    before, after = (made.finish(made.decide_logits(logits)) for made in (plain, refined))
    assert (before != after).any()
    changed = before != after
    assert ((before[changed] == 2) | (after[changed] == 2)).all()


def test_areas_are_in_pixels_of_the_networks_input() -> None:
    """Resized to four times the side, a piece of 3 px has 48 px, and is removed by the same limit."""
    small = np.zeros((64, 64), np.uint8)
    small[10, 10:13], small[30, 5:50] = 1, 1
    large = np.kron(small, np.ones((4, 4), np.uint8))
    refine = {"vein": ClassPostprocessing(min_area_px=4)}
    for mode, kept in (("resize", 45 * 16), ("crop", 48 * 16)):
        maps = torch.from_numpy(np.stack([large, large]))
        assert maker(mode=mode, classes=refine).finish(maps).sum() == kept


@pytest.mark.parametrize("value", [0, 1])
def test_an_empty_and_a_full_mask_stay_as_they_are(value: int) -> None:
    refine = ClassPostprocessing(low_threshold=0.3, min_area_px=5, min_hole_px=5)
    maps = torch.full((2, 16, 20), value, dtype=torch.uint8) * torch.tensor([1, 255], dtype=torch.uint8)[:, None, None]
    assert (maker(classes={"vein": refine}).finish(maps) == value).all()


def test_the_probability_maker_gives_probabilities() -> None:
    logits = smooth_logits(3)
    made = ProbabilityMaker(Postprocessing(), THREE, DataConfig(size=(64, 64)))
    expected = (logits.softmax(0) * 255).round().to(torch.uint8)
    assert torch.equal(made.decide_logits(logits), expected)
    assert torch.equal(made.decide_probs(logits.softmax(0)), expected)
    np.testing.assert_array_equal(made.finish(expected), expected)


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 0},
        {"threshold": 1.0},
        {"threshold": float("nan")},
        {"threshold": "0.5"},
        {"threshold": True},
        {"bias": [0.0, float("inf")]},
        {"classes": {"vein": {"low_threshold": -0.1}}},
        {"classes": {"vein": {"min_area_px": float("nan")}}},
        {"classes": {"vein": {"min_hole_px": -1}}},
        {"classes": {"vein": {"repair": {"min_prob": float("nan")}}}},
        {"classes": {"vein": {"repair": {"min_mean_prob": 2}}}},
        {"classes": {"vein": {"repair": [0.1]}}},
        {"classes": {"vein": {"else": 1}}},
        {"classes": ["vein"]},
        {"other": 1},
    ],
)
def test_values_that_are_none_are_refused(values: dict[str, Any]) -> None:
    good = {"threshold": 0.5, "bias": [], "classes": {}}
    assert Postprocessing.from_dict(good) == Postprocessing()
    with pytest.raises((ValueError, TypeError, AttributeError)):
        Postprocessing.from_dict(good | values)


@pytest.mark.parametrize(
    ("classes", "values"),
    [(VEIN, {"bias": (1.0,)}), (THREE, {"bias": (1.0, 2.0)}), (VEIN, {"classes": {"leaf": ClassPostprocessing()}})],
)
def test_postprocessing_of_other_classes_is_refused(classes: tuple[str, ...], values: Any) -> None:
    with pytest.raises(ValueError, match="mask class"):
        Postprocessing(**values).require_classes(classes)
