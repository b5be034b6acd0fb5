"""Losses equal PyTorch's own, or closed forms where PyTorch has none."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.dataset import find_centerlines
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch
from mnsa.training import losses
from narrowing import some

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
    assert torch.equal(some(logits.grad), torch.zeros(2, 3))


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


def thin_batch(masks: Tensor, classes: tuple[int, ...] = (1,)) -> Batch:
    """A batch of masks (B, H, W) with the centerlines that the loader finds."""
    lines = torch.stack([find_centerlines(mask, classes) for mask in masks])
    return Batch(torch.zeros(len(masks), 3, 1, 1), masks, torch.zeros(len(masks)), lines)


def thin_loss(name: str, logits: Tensor, masks: Tensor, classes: tuple[int, ...] = (1,), iterations: int = 5) -> Tensor:
    """One of the losses for thin structures, of logits (B, M, h, w) and masks (B, H, W)."""
    thin = losses.thin_targets(thin_batch(masks, classes), classes)
    targets, valid = losses.mask_targets(masks, (logits.shape[-2], logits.shape[-1]), logits.shape[1])
    probs = losses.mask_probs(logits)
    probs = probs if logits.shape[1] == 1 else probs[:, list(classes)]
    if name == "cldice":
        return losses.cldice_loss(probs, thin, valid, iterations)
    if name == "skeleton_recall":
        return losses.skeleton_recall_loss(probs, thin, valid)
    return losses.centerline_loss(logits, targets, valid, thin)


THIN_LOSSES = ["cldice", "skeleton_recall", "centerline"]


@pytest.fixture
def line() -> Tensor:
    """A mask (1, 24, 40) with a line 3 px wide from edge to edge."""
    mask = torch.zeros(1, 24, 40, dtype=torch.long)
    mask[:, 10:13] = 1
    return mask


def confident(mask: Tensor, logit: float = 20.0) -> Tensor:
    """Logits (B, 1, H, W) of a mask (B, H, W)."""
    return (logit * (2 * mask - 1))[:, None].float()


def cldice_by_scipy(probs: np.ndarray, mask: np.ndarray, centerlines: np.ndarray, iterations: int) -> float:
    """The formulas of the paper for one mask, (H, W) each, by grey morphology; smoothing of one pixel in precision."""
    rest, image = np.ones_like(probs), probs
    for _ in range(iterations + 1):
        eroded = ndimage.grey_erosion(image, footprint=ndimage.generate_binary_structure(2, 1), mode="nearest")
        rest *= 1 - np.maximum(image - ndimage.grey_dilation(eroded, size=(3, 3), mode="nearest"), 0)
        image = eroded
    precision = (((1 - rest) * mask).sum() + 1) / ((1 - rest).sum() + 1)
    recall = (probs * centerlines).sum() / centerlines.sum()
    return float(1 - 2 * precision * recall / (precision + recall))


def test_cldice_equals_its_formula(generator: torch.Generator, line: Tensor) -> None:
    logits = torch.randn(1, 1, 24, 40, generator=generator, dtype=torch.float64)
    probs = 1 / (1 + np.exp(-logits.numpy()[0, 0]))
    expected = cldice_by_scipy(probs, line.numpy()[0], some(thin_batch(line).centerlines).numpy()[0], iterations=3)
    assert thin_loss("cldice", logits, line, iterations=3).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", THIN_LOSSES)
def test_a_perfect_mask_has_no_loss(line: Tensor, name: str) -> None:
    assert thin_loss(name, confident(line), line).item() == pytest.approx(0, abs=0.03)  # ends of a thinned line


def test_a_broken_line_costs_cldice_and_a_thicker_line_does_not(line: Tensor) -> None:
    broken, thicker = line.clone(), line.clone()
    broken[..., 18:22] = 0
    thicker[:, 9:14] = 1
    # 4 of 40 px of the centerline are lost: recall 0.9, precision 1
    assert thin_loss("cldice", confident(broken), line).item() == pytest.approx(1 - 2 * 0.9 / 1.9, abs=0.03)
    assert thin_loss("cldice", confident(thicker), line).item() == pytest.approx(0, abs=0.03)


def test_a_false_line_costs_cldice_its_precision(line: Tensor) -> None:
    doubled = line.clone()
    doubled[:, 3:6] = 1  # as long as the true line: precision 1/2
    assert thin_loss("cldice", confident(doubled), line).item() == pytest.approx(1 - 2 * 0.5 / 1.5, abs=0.03)


@pytest.mark.parametrize("name", THIN_LOSSES)
def test_the_gradient_closes_the_gap_of_a_broken_line(line: Tensor, name: str) -> None:
    broken = line.clone()
    broken[..., 18:22] = 0
    logits = confident(broken, 3.0).requires_grad_()
    thin_loss(name, logits, line).backward()
    # also for one mask class, which has no channel of the background
    assert (some(logits.grad)[0, 0, 11, 18:22] < 0).all()


def test_skeleton_recall_is_the_mean_probability_within_2_px_of_the_centerline_in_the_mask(
    generator: torch.Generator,
) -> None:
    mask = torch.zeros(1, 24, 40, dtype=torch.long)
    mask[:, 8:17, 5:35] = 1  # 9 px wide
    logits = torch.randn(1, 1, 24, 40, generator=generator)
    lines = some(thin_batch(mask).centerlines)[0].numpy()
    tube = (ndimage.distance_transform_cdt(~lines, metric="taxicab") <= 2) & (mask[0].numpy() == 1)
    assert lines.sum() < tube.sum() < mask.sum()
    expected = 1 - logits.sigmoid()[0, 0].numpy()[tube].mean()
    assert thin_loss("skeleton_recall", logits, mask).item() == pytest.approx(expected, abs=1e-6)


def test_the_centerline_loss_looks_at_lines_and_at_narrow_gaps() -> None:
    mask = torch.zeros(1, 24, 40, dtype=torch.long)
    mask[:, 2:7], mask[:, 9:14], mask[:, 19] = 1, 1, 1  # two lines 5 px wide, a gap of 2 px between, and a line of 1 px
    logits = torch.zeros(1, 1, 24, 40, requires_grad=True)
    thin_loss("centerline", logits, mask).backward()
    rows = (some(logits.grad)[0, 0, :, 20] != 0).nonzero().flatten().tolist()
    assert rows == [3, 4, 5, 7, 8, 10, 11, 12, 18, 19, 20]
    assert some(logits.grad)[0, 0, 4, 20].item() == pytest.approx(-0.5 / mask.numel())


@pytest.mark.parametrize("name", THIN_LOSSES)
def test_only_the_thin_classes_count(generator: torch.Generator, line: Tensor, name: str) -> None:
    mask = line.clone()
    mask[:, 18:22] = 2
    logits = torch.randn(1, 3, 24, 40, generator=generator)
    swapped = logits[:, [0, 2, 1]]
    mirrored = torch.where(mask > 0, 3 - mask, 0)
    torch.testing.assert_close(thin_loss(name, logits, mask, (1,)), thin_loss(name, swapped, mirrored, (2,)))
    both, first, second = (thin_loss(name, logits, mask, classes).item() for classes in ((1, 2), (1,), (2,)))
    assert first != pytest.approx(second, abs=1e-4)
    assert both == pytest.approx(first + second if name == "centerline" else (first + second) / 2, abs=1e-4)


@pytest.mark.parametrize("name", ["cldice", "skeleton_recall"])
def test_a_class_that_the_batch_does_not_have_adds_nothing(line: Tensor, name: str) -> None:
    logits = torch.zeros(1, 3, 24, 40)
    torch.testing.assert_close(thin_loss(name, logits, line, (1, 2)), thin_loss(name, logits, line, (1,)))


@pytest.mark.parametrize("name", THIN_LOSSES)
@pytest.mark.parametrize("size", [(12, 20), (48, 80)])
def test_the_losses_work_at_half_and_at_double_resolution(line: Tensor, name: str, size: tuple[int, int]) -> None:
    good = F.interpolate(confident(line, 3.0), size, mode="bilinear")
    bad = (-good).requires_grad_()
    loss = thin_loss(name, bad, line)
    loss.backward()
    assert thin_loss(name, good, line) < 0.6 * loss
    assert (some(bad.grad)[0, 0, 11 * size[0] // 24] < 0).any()


IMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "empty": torch.zeros_like,
    "ignored": lambda line: torch.full_like(line, IGNORE_INDEX),
    "full": torch.ones_like,
    "one vein": lambda line: line,
    "partly ignored": lambda line: line.index_fill(2, torch.arange(20), IGNORE_INDEX),
    "one pixel": lambda line: torch.zeros_like(line).index_put(
        (torch.tensor(0), torch.tensor(3), torch.tensor(4)), torch.tensor(1)
    ),
}


@pytest.mark.parametrize("name", THIN_LOSSES)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("mask_classes", [1, 3])
def test_losses_and_gradients_are_finite_for_any_mask_and_logits(
    generator: torch.Generator, line: Tensor, name: str, image: str, mask_classes: int
) -> None:
    mask = IMAGES[image](line)
    for scale in (0.0, 1.0, 1e4):
        logits = (scale * torch.randn(1, mask_classes, 24, 40, generator=generator).sign()).requires_grad_()
        loss = thin_loss(name, logits, mask)
        loss.backward()
        assert loss.isfinite()
        assert loss >= 0
        assert some(logits.grad).isfinite().all()
        if image in ("empty", "ignored"):
            assert loss == 0
            assert not some(logits.grad).any()


@pytest.mark.parametrize("name", THIN_LOSSES)
def test_ignored_pixels_get_no_gradient(generator: torch.Generator, line: Tensor, name: str) -> None:
    mask = IMAGES["partly ignored"](line)
    logits = torch.randn(1, 1, 24, 40, generator=generator).requires_grad_()
    thin_loss(name, logits, mask, iterations=3).backward()
    assert not some(logits.grad)[..., : 20 - 5].any()  # a soft skeleton sees iterations + 2 px beyond the border
    assert some(logits.grad)[..., 20:].any()


@pytest.mark.parametrize("name", THIN_LOSSES)
def test_the_gradients_equal_finite_differences(generator: torch.Generator, name: str) -> None:
    mask = torch.zeros(2, 8, 9, dtype=torch.long)
    mask[0, 3:6], mask[1, :, 4] = 1, 2
    logits = torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    # targets are float32, whose rounding is the same on both sides
    assert torch.autograd.gradcheck(lambda x: thin_loss(name, x, mask, (1, 2), iterations=2), (logits,))


def test_a_batch_without_centerlines_is_refused(line: Tensor) -> None:
    with pytest.raises(ValueError, match="no centerlines"):
        losses.thin_targets(Batch(torch.zeros(1, 3, 24, 40), line, torch.zeros(1)), (1,))
