"""MixUp and CutMix do to labels and masks what they do to images."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mnsa.config import AugmentConfig, Config
from mnsa.errors import ConfigError
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch
from mnsa.training import losses
from mnsa.training.fit import train
from mnsa.training.mixing import BatchMixer, make_mixer
from narrowing import some


def make_batch() -> Batch:
    """Six images of one color each: their class, 0, 1 or 2. The mask has class 1 or 2 everywhere."""
    classes = torch.arange(6) % 3
    images = classes[:, None, None, None].float().expand(-1, 3, 32, 32).contiguous()
    masks = (1 + torch.arange(6) % 2)[:, None, None].expand(-1, 32, 32).contiguous()
    return Batch(images, masks, classes, (masks == 1))


def mix(augment: AugmentConfig, batch: Batch) -> Batch:
    return some(make_mixer(augment, 3, 3))(batch)


def test_no_alpha_is_no_mixer() -> None:
    assert make_mixer(AugmentConfig(), 3, 1) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("augment", [AugmentConfig(mixup=1.0), AugmentConfig(cutmix=1.0)])
def test_the_shares_of_the_classes_are_those_of_the_pixels(augment: AugmentConfig, seed: int) -> None:
    torch.manual_seed(seed)
    mixed = mix(augment, make_batch())
    shares = some(mixed.label_shares)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    torch.testing.assert_close(shares @ torch.tensor([0.0, 1.0, 2.0]), mixed.images.mean((1, 2, 3)))
    assert ((shares > 0.001) & (shares < 0.999)).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_pasted_rectangle_brings_its_mask_and_centerlines(seed: int) -> None:
    torch.manual_seed(seed)
    batch = make_batch()
    mixed = mix(AugmentConfig(cutmix=1.0), batch)
    own = mixed.images[:, 0] == batch.images[:, 0]  # consecutive images have other colors
    assert 0 < own.sum() < own.numel()
    assert torch.equal(mixed.masks, batch.masks.where(own, batch.masks.roll(1, 0)))
    assert torch.equal(some(mixed.centerlines), mixed.masks == 1)
    assert mixed.mask_shares is None


def test_blended_masks_are_targets_with_the_share_of_each() -> None:
    torch.manual_seed(1)
    batch = make_batch()
    mixed = mix(AugmentConfig(mixup=1.0), batch)
    share = some(mixed.label_shares)[0, 0]  # of the image itself, whose class the one before has not
    targets, valid = losses.mask_targets(mixed.masks, (16, 16), 3, mixed.mask_shares)
    assert valid.all()
    torch.testing.assert_close(targets[0, 1], share.expand(16, 16))
    torch.testing.assert_close(targets[0, 2], (1 - share).expand(16, 16))


def test_what_is_unknown_in_one_of_two_images_is_unknown_in_their_blend() -> None:
    batch = make_batch()
    batch.masks[2], batch.labels[2] = IGNORE_INDEX, NO_LABEL
    mixed = mix(AugmentConfig(mixup=1.0), batch)
    unknown = (mixed.masks == IGNORE_INDEX).flatten(1).all(1)
    assert unknown.tolist() == [False, False, True, True, False, False]
    assert some(mixed.label_shares)[2].sum() < 1
    assert not losses.mask_targets(mixed.masks, (32, 32), 3, mixed.mask_shares)[0][2:4].any()


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 1.5])])
def test_the_loss_of_shares_is_that_of_the_labels_by_their_shares(weights: torch.Tensor | None) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    entropy = [
        F.cross_entropy(logits, labels, weights, label_smoothing=0.1, reduction="sum") for labels in (first, second)
    ]
    total = [(torch.ones(3) if weights is None else weights)[labels].sum() for labels in (first, second)]
    expected = (0.7 * entropy[0] + 0.3 * entropy[1]) / (0.7 * total[0] + 0.3 * total[1])
    shares = 0.7 * F.one_hot(first, 3) + 0.3 * F.one_hot(second, 3)
    torch.testing.assert_close(losses.classification_loss(logits, shares, weights, 0.1), expected)
    unlabeled = torch.cat([shares, torch.zeros(1, 3)])
    more = torch.cat([logits, torch.ones(1, 3)])
    torch.testing.assert_close(losses.classification_loss(more, unlabeled, weights, 0.1), expected)


def test_both_tasks_train_with_everything_mixed(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    augment = {"mixup": 0.2, "cutmix": 1.0, "policy": "trivial"}
    stage = {"epochs": 1, "batch_parts": 2}
    run = train(make_config(stage, augment=augment, train={"sampler": "balanced"}), dataset, tmp_path / "run")
    header, values = run.metrics_file.read_text().splitlines()
    found = dict(zip(header.split(","), values.split(","), strict=True))
    assert 0 < float(found["loss_classification"]) < 5
    assert 0 < float(found["loss_dice"]) < 1


def test_blended_masks_and_losses_of_whole_pixels_are_refused(make_config: Callable[..., Config]) -> None:
    make_config(augment={"cutmix": 1.0}, loss={"cldice": 0.5})
    with pytest.raises(ConfigError, match=r"augment\.mixup mixes masks.*use augment\.cutmix"):
        make_config(augment={"mixup": 0.2}, loss={"cldice": 0.5})


def test_one_mask_class_is_blended_too() -> None:
    batch = make_batch()
    mixed = BatchMixer((some(make_mixer(AugmentConfig(mixup=1.0), 0, 1)).transforms[0],), 0, 1)(batch)
    assert mixed.label_shares is None
    assert some(mixed.mask_shares).shape == (6, 1, 32, 32)
