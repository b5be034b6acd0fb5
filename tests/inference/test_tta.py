"""Each view is undone exactly; answers are averaged as probabilities."""

from itertools import pairwise

import pytest
import torch

from mnsa.errors import ConfigError
from mnsa.inference.views import (
    AUGMENTATIONS,
    SCALES,
    Mean,
    View,
    averaged,
    cells_of,
    mask_from,
    mask_logits_of,
    mask_probs_of,
    views_of,
)
from mnsa.model.heads import mask_of
from mnsa.records import Outputs

MOVES = [View(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]


@pytest.fixture
def numbers():
    """Random tensors."""
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("view", MOVES)
@pytest.mark.parametrize("size", [(33, 70), (64, 64)])
def test_mirroring_and_turning_is_undone_exactly(view, size, numbers):
    images = numbers(2, 3, *size)
    assert torch.equal(view.undo(view.show(images), size), images)


def test_the_eight_moves_differ(numbers):
    images = numbers(1, 1, 4, 4)
    shown = [view.show(images) for view in MOVES]
    assert not any(torch.equal(a, b) for n, a in enumerate(shown) for b in shown[:n])


@pytest.mark.parametrize("scale", SCALES)
def test_a_resized_view_comes_back_at_its_own_size_and_place(scale):
    slope = torch.arange(200.0)[None, None, None].expand(1, 1, 100, 200)
    view = View(mirrored=True, quarters=1, scale=scale)
    assert view.show(slope).shape == (1, 1, round(200 * scale), round(100 * scale))
    back = view.undo(view.show(slope), (100, 200))
    torch.testing.assert_close(back[..., 4:-4], slope[..., 4:-4], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("augmentations", "views"),
    [((), 1), (("flips",), 4), (("turns",), 4), (("turns", "flips"), 8), (("scales",), 3), (AUGMENTATIONS, 24)],
)
def test_views_are_the_picture_itself_first_and_all_others_once(augmentations, views):
    found = views_of(augmentations, quarter_turns=True)
    assert found[0] == View()
    assert len(found) == len(set(found)) == views


def test_an_oblong_that_was_stretched_is_never_laid_on_its_side():
    assert {view.quarters for view in views_of(["turns", "flips"], quarter_turns=False)} == {0, 2}
    assert len(views_of(["turns", "flips"], quarter_turns=False)) == 4


def test_an_unknown_augmentation_is_named():
    with pytest.raises(ConfigError, match=r"no augmentation 'colours'\. Expected some of flips, turns, scales"):
        views_of(["flips", "colours"], quarter_turns=True)


@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_and_logits_say_the_same_class(classes, numbers):
    logits = numbers(2, classes, 9, 9)
    probs = mask_probs_of(logits)
    assert torch.equal(mask_of(mask_logits_of(probs)), mask_of(logits))
    assert torch.equal(mask_from(probs[0]).to(torch.uint8), mask_of(logits)[0])
    if classes == 1:
        torch.testing.assert_close(mask_logits_of(probs), logits, atol=1e-4, rtol=0)


def pixelwise(images):
    """A network that sees each pixel alone, but whose class depends on where the red is."""
    height = images.shape[2]
    top = images[:, 0, : height // 2].mean((1, 2))
    attention = torch.nn.functional.avg_pool2d(images[:, :1], 32, ceil_mode=True)
    return Outputs(torch.stack([top, -top], 1), 2 * images[:, :2], attention)


def test_a_network_that_sees_pixels_says_the_same_of_them_in_all_views(numbers):
    images = numbers(2, 3, 64, 96)
    found = averaged(pixelwise, images, MOVES, 1.0)
    torch.testing.assert_close(found.mask_logits.softmax(1), pixelwise(images).mask_logits.softmax(1))
    torch.testing.assert_close(found.attention, pixelwise(images).attention)


def test_class_probabilities_are_averaged_after_the_temperature(numbers):
    images, views = numbers(2, 3, 64, 64), MOVES[:3]
    found = averaged(pixelwise, images, views, 2.5)
    each = [(pixelwise(view.show(images)).class_logits / 2.5).softmax(1) for view in views]
    torch.testing.assert_close((found.class_logits / 2.5).softmax(1), torch.stack(each).mean(0))
    assert not any(torch.allclose(a, b) for a, b in pairwise(each))


def test_one_view_is_the_network_itself(numbers):
    images = numbers(1, 3, 40, 40)
    found = averaged(pixelwise, images, [View()], 3.0)
    assert all(torch.equal(a, b) for a, b in zip(found, pixelwise(images), strict=True))


def test_a_task_that_the_network_does_not_do_stays_without_an_answer(numbers):
    found = averaged(lambda _: Outputs(None, None, None), numbers(1, 3, 40, 40), MOVES, 1.0)
    assert found == Outputs(None, None, None)


def test_a_mean_counts_each_by_its_weight():
    mean = Mean()
    assert mean.value is None
    mean.add(torch.tensor(1.0), 3)
    mean.add(torch.tensor(5.0), 1)
    assert mean.value == 2


def test_cells_that_begin_count():
    assert cells_of((64, 65)) == (2, 3)
