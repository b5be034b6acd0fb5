"""Each view is undone exactly; answers are averaged as probabilities."""

from itertools import pairwise

import pytest
import torch

from mnsa.errors import ConfigError
from mnsa.inference.tta import (
    AUGMENTATIONS,
    TTA_SCALES,
    RunningMean,
    View,
    attention_size,
    build_views,
    mask_logits_to_probs,
    mask_probs_to_classes,
    mask_probs_to_logits,
    predict_views,
)
from mnsa.model.heads import mask_from_logits
from mnsa.structures import NetworkOutputs

MOVES = [View(hflip, rotations) for hflip in (False, True) for rotations in range(4)]


@pytest.fixture
def numbers():
    """Random tensors."""
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("view", MOVES)
@pytest.mark.parametrize("size", [(33, 70), (64, 64)])
def test_mirroring_and_turning_is_undone_exactly(view, size, numbers):
    images = numbers(2, 3, *size)
    assert torch.equal(view.invert(view.apply(images), size), images)


def test_the_eight_moves_differ(numbers):
    images = numbers(1, 1, 4, 4)
    shown = [view.apply(images) for view in MOVES]
    assert not any(torch.equal(a, b) for n, a in enumerate(shown) for b in shown[:n])


@pytest.mark.parametrize("scale", TTA_SCALES)
def test_a_resized_view_comes_back_at_its_own_size_and_place(scale):
    slope = torch.arange(200.0)[None, None, None].expand(1, 1, 100, 200)
    view = View(hflip=True, rotations=1, scale=scale)
    assert view.apply(slope).shape == (1, 1, round(200 * scale), round(100 * scale))
    back = view.invert(view.apply(slope), (100, 200))
    torch.testing.assert_close(back[..., 4:-4], slope[..., 4:-4], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("augmentations", "views"),
    [((), 1), (("flips",), 4), (("rot90",), 4), (("rot90", "flips"), 8), (("scales",), 3), (AUGMENTATIONS, 24)],
)
def test_views_are_the_picture_itself_first_and_all_others_once(augmentations, views):
    found = build_views(augmentations, allow_quarter_turns=True)
    assert found[0] == View()
    assert len(found) == len(set(found)) == views


def test_an_oblong_that_was_stretched_is_never_laid_on_its_side():
    assert {view.rotations for view in build_views(["rot90", "flips"], allow_quarter_turns=False)} == {0, 2}
    assert len(build_views(["rot90", "flips"], allow_quarter_turns=False)) == 4


def test_an_unknown_augmentation_is_named():
    with pytest.raises(ConfigError, match=r"no augmentation 'colours'\. Expected some of flips, rot90, scales"):
        build_views(["flips", "colours"], allow_quarter_turns=True)


@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_and_logits_say_the_same_class(classes, numbers):
    logits = numbers(2, classes, 9, 9)
    probs = mask_logits_to_probs(logits)
    assert torch.equal(mask_from_logits(mask_probs_to_logits(probs)), mask_from_logits(logits))
    assert torch.equal(mask_probs_to_classes(probs[0]).to(torch.uint8), mask_from_logits(logits)[0])
    if classes == 1:
        torch.testing.assert_close(mask_probs_to_logits(probs), logits, atol=1e-4, rtol=0)


def pixelwise(images):
    """A network that sees each pixel alone, but whose class depends on where the red is."""
    height = images.shape[2]
    top = images[:, 0, : height // 2].mean((1, 2))
    attention = torch.nn.functional.avg_pool2d(images[:, :1], 32, ceil_mode=True)
    return NetworkOutputs(torch.stack([top, -top], 1), 2 * images[:, :2], attention)


def test_a_network_that_sees_pixels_says_the_same_of_them_in_all_views(numbers):
    images = numbers(2, 3, 64, 96)
    found = predict_views(pixelwise, images, MOVES, 1.0)
    torch.testing.assert_close(found.mask_logits.softmax(1), pixelwise(images).mask_logits.softmax(1))
    torch.testing.assert_close(found.attention, pixelwise(images).attention)


def test_class_probabilities_are_averaged_after_the_temperature(numbers):
    images, views = numbers(2, 3, 64, 64), MOVES[:3]
    found = predict_views(pixelwise, images, views, 2.5)
    each = [(pixelwise(view.apply(images)).class_logits / 2.5).softmax(1) for view in views]
    torch.testing.assert_close((found.class_logits / 2.5).softmax(1), torch.stack(each).mean(0))
    assert not any(torch.allclose(a, b) for a, b in pairwise(each))


def test_one_view_is_the_network_itself(numbers):
    images = numbers(1, 3, 40, 40)
    found = predict_views(pixelwise, images, [View()], 3.0)
    assert all(torch.equal(a, b) for a, b in zip(found, pixelwise(images), strict=True))


def test_a_task_that_the_network_does_not_do_stays_without_an_answer(numbers):
    found = predict_views(lambda _: NetworkOutputs(None, None, None), numbers(1, 3, 40, 40), MOVES, 1.0)
    assert found == NetworkOutputs(None, None, None)


def test_a_mean_counts_each_by_its_weight():
    mean = RunningMean()
    assert mean.value is None
    mean.add(torch.tensor(1.0), 3)
    mean.add(torch.tensor(5.0), 1)
    assert mean.value == 2


def test_cells_that_begin_count():
    assert attention_size((64, 65)) == (2, 3)
