"""Every view is inverted exactly, and probabilities are averaged, not logits."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import Tensor

from mnsa.errors import ConfigError
from mnsa.inference.tta import (
    AUGMENTATIONS,
    TTA_SCALES,
    RunningMean,
    View,
    attention_size,
    average_class_probs,
    build_views,
    mask_logits_to_probs,
    mask_probs_to_logits,
    predict_views,
)
from mnsa.model.heads import mask_from_logits
from mnsa.structures import NetworkOutputs

MOVES = [View(hflip, rotations) for hflip in (False, True) for rotations in range(4)]

Numbers = Callable[..., Tensor]


@pytest.fixture
def numbers() -> Numbers:
    """Random tensors."""
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("view", MOVES)
@pytest.mark.parametrize("size", [(33, 70), (64, 64)])
def test_flips_and_rotations_are_inverted_exactly(view: View, size: tuple[int, int], numbers: Numbers) -> None:
    images = numbers(2, 3, *size)
    assert torch.equal(view.invert(view.apply(images), size), images)


def test_the_eight_combinations_of_flip_and_rotation_differ(numbers: Numbers) -> None:
    images = numbers(1, 1, 4, 4)
    seen = [view.apply(images) for view in MOVES]
    assert not any(torch.equal(a, b) for n, a in enumerate(seen) for b in seen[:n])


@pytest.mark.parametrize("scale", TTA_SCALES)
def test_a_scaled_view_is_mapped_back_to_its_size_and_place(scale: float) -> None:
    slope = torch.arange(200.0)[None, None, None].expand(1, 1, 100, 200)
    view = View(hflip=True, rotations=1, scale=scale)
    assert view.apply(slope).shape == (1, 1, round(200 * scale), round(100 * scale))
    restored = view.invert(view.apply(slope), (100, 200))
    torch.testing.assert_close(restored[..., 4:-4], slope[..., 4:-4], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("augmentations", "count"),
    [((), 1), (("flips",), 4), (("rot90",), 4), (("rot90", "flips"), 8), (("scales",), 3), (AUGMENTATIONS, 24)],
)
def test_the_first_view_is_the_image_itself_and_no_view_repeats(augmentations: Sequence[str], count: int) -> None:
    views = build_views(augmentations, allow_quarter_turns=True)
    assert views[0] == View()
    assert len(views) == len(set(views)) == count


def test_without_quarter_turns_views_are_rotated_by_180_degrees_only() -> None:
    views = build_views(["rot90", "flips"], allow_quarter_turns=False)
    assert {view.rotations for view in views} == {0, 2}
    assert len(views) == 4


def test_an_unknown_augmentation_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no augmentation 'colors'\. Expected some of flips, rot90, scales"):
        build_views(["flips", "colors"], allow_quarter_turns=True)


def test_mask_probabilities_are_scipys_softmax_and_sigmoid(numbers: Numbers) -> None:
    logits = 5 * numbers(2, 3, 9, 9)
    probs = mask_logits_to_probs(logits)
    np.testing.assert_allclose(probs.numpy(), softmax(logits.numpy(), axis=1), atol=1e-6)
    torch.testing.assert_close(probs.sum(1), torch.ones(2, 9, 9))
    np.testing.assert_allclose(mask_logits_to_probs(logits[:, :1]).numpy(), expit(logits[:, :1].numpy()), atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_mask_probabilities_and_logits_give_the_same_classes(classes: int, numbers: Numbers) -> None:
    logits = numbers(2, classes, 9, 9)
    probs = mask_logits_to_probs(logits)
    assert torch.equal(mask_from_logits(mask_probs_to_logits(probs)), mask_from_logits(logits))
    if classes == 1:
        torch.testing.assert_close(mask_probs_to_logits(probs), logits, atol=1e-4, rtol=0)


def pixelwise(images: Tensor) -> NetworkOutputs:
    """A network that sees each pixel alone, but whose class depends on where the red is."""
    height = images.shape[2]
    top = images[:, 0, : height // 2].mean((1, 2))
    attention = torch.nn.functional.avg_pool2d(images[:, :1], 32, ceil_mode=True)
    return NetworkOutputs(torch.stack([top, -top], 1), 2 * images[:, :2], attention)


def disagreeing(outputs: Sequence[NetworkOutputs]) -> Callable[[Tensor], NetworkOutputs]:
    """A network that gives other outputs at each call, whatever it sees."""
    remaining = iter(outputs)
    return lambda _: next(remaining)


def test_a_network_that_sees_single_pixels_predicts_the_same_in_all_views(numbers: Numbers) -> None:
    images = numbers(2, 3, 64, 96)
    found, plain = predict_views(pixelwise, images, MOVES, 1.0), pixelwise(images)
    assert found.mask_logits is not None
    assert found.attention is not None
    assert plain.mask_logits is not None
    torch.testing.assert_close(found.mask_logits.softmax(1), plain.mask_logits.softmax(1))
    torch.testing.assert_close(found.attention, plain.attention)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_probabilities_of_views_are_averaged_and_not_their_logits(temperature: float) -> None:
    logits = np.array([[20.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])  # one view is confident, two are not
    network = disagreeing([NetworkOutputs(torch.tensor(view)[None], None, None) for view in logits])
    found = predict_views(network, torch.zeros(1, 3, 64, 64), MOVES[:3], temperature).class_probs
    assert found is not None
    expected = softmax(logits / temperature, axis=1).mean(0)
    of_mean_logits = softmax(logits.mean(0) / temperature)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert np.abs(expected - of_mean_logits).max() > 0.1


@pytest.mark.parametrize("mask_classes", [1, 3])
def test_mask_probabilities_of_views_are_averaged_and_not_their_logits(mask_classes: int) -> None:
    logits = torch.zeros(3, mask_classes, 64, 64)
    logits[1:, 0] = 3.0
    logits[0, -1], logits[1:, -1] = (
        20.0,
        -2.0,
    )  # the last class has the highest mean logit, not the highest mean probability
    network = disagreeing([NetworkOutputs(None, view[None], None) for view in logits])
    found = predict_views(network, torch.zeros(1, 3, 64, 64), [View(), View(hflip=True), View(rotations=2)], 1.0)
    assert found.mask_logits is not None
    expected = mask_logits_to_probs(logits).mean(0)
    torch.testing.assert_close(mask_logits_to_probs(found.mask_logits)[0], expected)
    assert not torch.equal(mask_from_logits(found.mask_logits)[0], mask_from_logits(logits.mean(0)[None])[0])


def test_attention_of_views_is_averaged() -> None:
    maps = [torch.full((1, 1, 2, 2), value) for value in (0.0, 0.3, 0.9)]
    network = disagreeing([NetworkOutputs(None, None, attention) for attention in maps])
    found = predict_views(network, torch.zeros(1, 3, 64, 64), MOVES[:3], 1.0)
    torch.testing.assert_close(found.attention, torch.full((1, 1, 2, 2), 0.4))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_class_probabilities_are_scipys_softmax_of_logits_over_the_temperature(
    temperature: float, numbers: Numbers
) -> None:
    logits = 4 * numbers(1, 5, 7)
    found = average_class_probs(logits, temperature)
    np.testing.assert_allclose(found.numpy(), softmax(logits[0].numpy() / temperature, axis=1), atol=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(5))


def test_a_single_view_keeps_the_networks_own_logits_and_attention(numbers: Numbers) -> None:
    images = numbers(1, 3, 40, 40)
    found, plain = predict_views(pixelwise, images, [View()], 3.0), pixelwise(images)
    assert found.mask_logits is not None
    assert found.attention is not None
    assert plain.mask_logits is not None
    assert plain.attention is not None
    assert torch.equal(found.mask_logits, plain.mask_logits)
    assert torch.equal(found.attention, plain.attention)


@pytest.mark.parametrize("views", [MOVES, MOVES[:1]])
def test_outputs_that_the_network_does_not_have_are_none(views: list[View], numbers: Numbers) -> None:
    found = predict_views(lambda _: NetworkOutputs(None, None, None), numbers(1, 3, 40, 40), views, 1.0)
    assert tuple(found) == (None, None, None)


def test_a_running_mean_weights_its_values() -> None:
    mean = RunningMean()
    assert mean.value is None
    mean.add(torch.tensor(1.0), 3)
    mean.add(torch.tensor(5.0), 1)
    assert mean.value == 2


def test_an_incomplete_cell_of_attention_counts() -> None:
    assert attention_size((64, 65)) == (2, 3)
