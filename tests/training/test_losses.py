"""Losses equal PyTorch's own, or closed forms where PyTorch has none."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mnsa.structures import IGNORE_INDEX, NO_LABEL
from mnsa.training import losses

SIZE = (6, 8)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_unlabeled_images_add_nothing_to_the_classification_loss(generator: torch.Generator) -> None:
    logits = torch.randn(4, 3, generator=generator)
    labels = torch.tensor([0, NO_LABEL, 2, NO_LABEL])
    ours = losses.classification_loss(logits, labels, None, 0.1)
    torch.testing.assert_close(ours, F.cross_entropy(logits[[0, 2]], torch.tensor([0, 2]), label_smoothing=0.1))


def test_a_batch_without_labels_has_zero_loss_and_zero_gradients(generator: torch.Generator) -> None:
    logits = torch.randn(2, 3, generator=generator, requires_grad=True)
    loss = losses.classification_loss(logits, torch.full((2,), NO_LABEL), None, 0.0)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 3))


def test_class_weights_are_those_of_the_cross_entropy(generator: torch.Generator) -> None:
    logits, labels, weights = (
        torch.randn(4, 3, generator=generator),
        torch.tensor([0, 1, 2, 2]),
        torch.tensor([1.0, 2, 3]),
    )
    ours = losses.classification_loss(logits, labels, weights, 0.0)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weights))


@pytest.mark.parametrize("mask_classes", [1, 3])
def test_the_pixel_loss_equals_the_cross_entropy_over_valid_pixels(
    generator: torch.Generator, mask_classes: int
) -> None:
    logits = torch.randn(2, mask_classes, *SIZE, generator=generator)
    masks = torch.randint(0, max(2, mask_classes), (2, *SIZE), generator=generator)
    masks[0, :3] = IGNORE_INDEX
    ours = losses.pixel_loss(logits, *losses.mask_targets(masks, SIZE, mask_classes))
    if mask_classes == 1:
        valid = masks != IGNORE_INDEX
        expected = F.binary_cross_entropy_with_logits(logits[:, 0][valid], masks[valid].float())
    else:
        expected = F.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(ours, expected)


def test_targets_at_lower_resolution_keep_the_area_of_every_class(generator: torch.Generator) -> None:
    masks = torch.randint(0, 3, (2, 12, 16), generator=generator)
    targets, valid = losses.mask_targets(masks, SIZE, 3)
    assert targets.shape == (2, 3, *SIZE)
    torch.testing.assert_close(targets.sum(1), torch.ones(2, *SIZE))
    areas = torch.stack([(masks == m).float().mean() for m in range(3)])
    torch.testing.assert_close(targets.mean((0, 2, 3)), areas)
    assert valid.all()


def test_the_dice_loss_is_zero_for_a_perfect_mask_and_one_for_its_inverse() -> None:
    masks = torch.tensor([[[0, 1], [1, 1]]])
    targets, valid = losses.mask_targets(masks, (2, 2), 1)
    confident = 100.0 * (2 * targets - 1)
    assert losses.dice_loss(confident, targets, valid).item() == pytest.approx(0, abs=1e-6)
    assert losses.dice_loss(-confident, targets, valid).item() == pytest.approx(1, abs=1e-6)


def test_the_dice_loss_of_constant_probabilities_equals_its_closed_form() -> None:
    # p = 1/2 everywhere, half the pixels true: 1 - 2 * (n/4) / (n/2 + n/2) = 1/2
    targets, valid = losses.mask_targets(torch.tensor([[[0, 1], [0, 1]]]), (2, 2), 1)
    assert losses.dice_loss(torch.zeros(1, 1, 2, 2), targets, valid).item() == pytest.approx(0.5)


def test_a_batch_without_masks_has_zero_loss() -> None:
    targets, valid = losses.mask_targets(torch.full((2, *SIZE), IGNORE_INDEX), SIZE, 3)
    logits = torch.ones(2, 3, *SIZE)
    assert losses.pixel_loss(logits, targets, valid) == 0
    assert losses.dice_loss(logits, targets, valid) == 0


def test_guidance_is_the_mse_with_the_pooled_mask_scaled_to_one(generator: torch.Generator) -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.long)
    masks[0, :4, :2] = 1  # fills half of the first cell of a 2 x 2 attention
    attention = torch.rand(1, 1, 2, 2, generator=generator)
    expected = F.mse_loss(attention, torch.tensor([[[[1.0, 0], [0, 0]]]]))
    torch.testing.assert_close(losses.guidance_loss(attention, masks), expected)


def test_guidance_ignores_images_without_foreground_or_mask(generator: torch.Generator) -> None:
    attention = torch.rand(3, 1, 2, 2, generator=generator)
    masks = torch.zeros(3, 8, 8, dtype=torch.long)
    masks[1] = IGNORE_INDEX
    masks[2, 0, 0] = 1
    alone = losses.guidance_loss(attention[2:], masks[2:])
    torch.testing.assert_close(losses.guidance_loss(attention, masks), alone)


def test_guidance_ignores_cells_without_a_valid_pixel(generator: torch.Generator) -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.long)
    masks[0, :4, :2] = 1
    masks[0, 4:] = IGNORE_INDEX  # as in a crop beyond the image's border: the lower two cells of a 2 x 2 attention
    attention = torch.rand(1, 1, 2, 2, generator=generator)
    expected = F.mse_loss(attention[..., :1, :], torch.tensor([[[[1.0, 0]]]]))
    torch.testing.assert_close(losses.guidance_loss(attention, masks), expected)


def test_guidance_treats_every_class_but_0_as_foreground(generator: torch.Generator) -> None:
    masks = torch.randint(0, 4, (2, 8, 8), generator=generator)
    attention = torch.rand(2, 1, 2, 2, generator=generator)
    expected = losses.guidance_loss(attention, masks.clamp(max=1))
    torch.testing.assert_close(losses.guidance_loss(attention, masks), expected)


def sides(generator: torch.Generator, logit: Any = None) -> list[torch.Tensor]:
    shapes = [(2, 1, 16 >> n, 24 >> n) for n in range(4)]  # levels 2..5 of an image of 32 x 48 px
    return [torch.randn(shape, generator=generator) if logit is None else torch.full(shape, logit) for shape in shapes]


def test_the_side_loss_is_the_cross_entropy_with_the_weights_of_the_method(generator: torch.Generator) -> None:
    masks = torch.randint(0, 2, (2, 32, 48), generator=generator)
    logits = sides(generator)
    expected = sum(
        F.binary_cross_entropy_with_logits(side, F.avg_pool2d(masks[:, None].float(), 2 << n)) / denominator
        for n, (side, denominator) in enumerate(zip(logits, (4, 8, 16, 32), strict=True))
    )
    torch.testing.assert_close(losses.side_loss(logits, masks), expected)


def test_the_side_loss_treats_every_class_but_0_as_foreground(generator: torch.Generator) -> None:
    masks = torch.randint(0, 3, (2, 32, 48), generator=generator)
    masks[0, :9] = IGNORE_INDEX
    one_class = masks.where(masks != 2, 1)
    logits = sides(generator)
    assert torch.equal(losses.side_loss(logits, masks), losses.side_loss(logits, one_class))


def test_the_side_loss_of_zero_logits_is_log_2_times_the_weights(generator: torch.Generator) -> None:
    masks = torch.randint(0, 2, (2, 32, 48), generator=generator)
    ours = losses.side_loss(sides(generator, logit=0.0), masks)
    assert ours.item() == pytest.approx(math.log(2) * (1 / 4 + 1 / 8 + 1 / 16 + 1 / 32))
    assert losses.side_loss(sides(generator), torch.full_like(masks, IGNORE_INDEX)) == 0
