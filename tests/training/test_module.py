"""Losses, scores, gradients and schedules of a stage; random numbers depend on seed, epoch, process and step alone."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryJaccardIndex, MulticlassAccuracy

from mnsa.config import Config
from mnsa.data.dataset import find_centerlines
from mnsa.model.network import build_network
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch
from mnsa.training import losses
from mnsa.training.module import StageModule, StepSeedCallback, _build_optimizer, _lr_factor
from narrowing import some


def draw(seed: int, epoch: int, process: Any = 0, step: int = 0) -> list[Any]:
    torch.rand(epoch + 1)  # an earlier step has used the generator
    callback: Any = StepSeedCallback(seed)
    callback.on_train_batch_start(SimpleNamespace(current_epoch=epoch, global_rank=process), None, None, step)
    return [*torch.rand(3).tolist(), random.random(), np.random.random()]


def test_a_step_has_the_same_random_numbers_after_any_history() -> None:
    draws = [draw(1, 0), draw(1, 1), draw(1, 1, step=1)]
    assert draw(1, 1) == draws[1]
    assert draw(1, 1, step=1) == draws[2]
    assert draw(1, 0) == draws[0]


def test_another_seed_epoch_process_or_step_has_other_random_numbers() -> None:
    draws = [draw(1, 0), draw(2, 0), draw(1, 1), draw(1, 0, process=1), draw(1, 0, step=1)]
    assert len(set(map(tuple, draws))) == 5


STAGE_2 = {"tasks": ("segmentation",), "trainable": ("enhancer", "decoder")}

UNKNOWN = torch.full((4, 64, 64), IGNORE_INDEX)

UNLABELED = torch.full((4,), NO_LABEL)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    return Batch(images, torch.randint(0, 2, (4, 64, 64), generator=generator), torch.tensor([0, 1, 2, 0]))


@pytest.fixture
def make_module(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Callable[..., StageModule]:
    def make(
        stage: tuple[()] | dict[str, Any] = (), mask_classes: Any = 1, weights: Any = None, **sections: dict[str, Any]
    ) -> StageModule:
        torch.manual_seed(3)
        config = make_config(dict(stage), **sections)
        network = build_network(config.model, 3, mask_classes)
        module = StageModule(
            network, config.stages[0], config.loss, mask_classes=mask_classes, class_weights=weights
        ).train()
        monkeypatch.setattr(module, "log", lambda *_, **__: None)  # without a trainer, logging fails
        return module

    return make


def gradient_norms(module: StageModule, batch: Batch) -> dict[str, Any]:
    """Compute the norm of each part's gradient after one step."""
    loss = module.training_step(batch, 0)
    assert loss.isfinite()
    loss.backward()
    parts = module.network.parts().items()
    return {name: sum(p.grad.norm().item() for p in part.parameters() if p.grad is not None) for name, part in parts}


def test_images_without_a_mask_train_only_the_classifier(make_module: Callable[..., StageModule], batch: Batch) -> None:
    norms = gradient_norms(make_module(), Batch(batch.images, UNKNOWN, batch.labels))
    assert norms["class_head"] > 0
    assert norms["backbone"] > 0
    assert norms["enhancer"] == norms["decoder"] == 0


def test_images_without_a_label_train_only_the_decoder(make_module: Callable[..., StageModule], batch: Batch) -> None:
    norms = gradient_norms(make_module(), Batch(batch.images, batch.masks, UNLABELED))
    assert norms["decoder"] > 0
    assert norms["enhancer"] > 0
    assert norms["class_head"] == norms["attention"] == 0


def test_a_batch_without_labels_and_masks_has_zero_gradients(
    make_module: Callable[..., StageModule], batch: Batch
) -> None:
    norms = gradient_norms(make_module(loss={"mask_guidance": 0.1}), Batch(batch.images, UNKNOWN, UNLABELED))
    assert set(norms.values()) == {0}


def test_mask_guidance_trains_the_attention_of_unlabeled_images(
    make_module: Callable[..., StageModule], batch: Batch
) -> None:
    stage = {"tasks": ("classification",), "trainable": ("backbone", "attention", "class_head")}
    module = make_module(stage, loss={"mask_guidance": 0.1})
    assert gradient_norms(module, Batch(batch.images, batch.masks, UNLABELED))["attention"] > 0


@pytest.mark.parametrize("mask_classes", [1, 2])
def test_the_loss_is_the_weighted_sum_of_the_losses_of_pytorch(
    make_module: Callable[..., StageModule], batch: Batch, mask_classes: int
) -> None:
    loss = {"classification": 2.0, "segmentation": 3.0, "dice": 0.0, "label_smoothing": 0.1}
    class_weights = torch.tensor([0.5, 1.0, 1.5])
    module = make_module(mask_classes=mask_classes, loss=loss, weights=class_weights, model={"dropout": 0.0})
    some(module.network.class_head).dropout.p = 0.0
    outputs = module.network(batch.images)
    entropy = F.cross_entropy(outputs.class_logits, batch.labels, class_weights, label_smoothing=0.1)
    if mask_classes == 1:
        pixels = F.binary_cross_entropy_with_logits(outputs.mask_logits[:, 0], batch.masks.float())
    else:
        pixels = F.cross_entropy(outputs.mask_logits, batch.masks)
    torch.testing.assert_close(module.training_step(batch, 0), 2 * entropy + 3 * pixels)


@pytest.mark.parametrize("mask_classes", [1, 3])
@pytest.mark.parametrize("mask_resolution", ["half", "full"])
def test_deep_supervision_weights_the_output_and_the_sides(
    make_module: Callable[..., StageModule], batch: Batch, mask_classes: int, mask_resolution: str
) -> None:
    model = {"mask_resolution": mask_resolution}
    module = make_module(STAGE_2, mask_classes, model=model, loss={"segmentation": 2.0, "deep_supervision": True})
    logits, sides = module.network.segment_with_side_logits(module.network.features(batch.images), batch.images)
    assert [side.shape[-1] for side in sides] == [32, 16, 8, 4]
    height, width = logits.shape[-2:]
    targets, valid = losses.mask_targets(batch.masks, (height, width), mask_classes)
    output = 2 * losses.pixel_loss(logits, targets, valid) + losses.dice_loss(logits, targets, valid)
    expected = 0.95 * output + 2 * 0.1 * losses.side_loss(sides, batch.masks)
    torch.testing.assert_close(module.training_step(batch, 0), expected)


def test_deep_supervision_decodes_once(make_module: Callable[..., StageModule], batch: Batch) -> None:
    module = make_module(STAGE_2, loss={"deep_supervision": True})
    runs = []
    some(module.network.decoder).register_forward_hook(lambda *_: runs.append(1))
    module.training_step(batch, 0)
    assert runs == [1]


@pytest.mark.parametrize("mask_classes", [1, 3])
@pytest.mark.parametrize("mask_resolution", ["half", "full"])
def test_the_losses_for_thin_structures_are_added_with_their_weights(
    make_module: Callable[..., StageModule], batch: Batch, mask_classes: int, mask_resolution: str
) -> None:
    lines = torch.stack([find_centerlines(mask, (1,)) for mask in batch.masks])
    batch = replace(batch, centerlines=lines)
    weights = {"cldice": 2.0, "skeleton_recall": 3.0, "centerline": 5.0, "cldice_iterations": 3}
    model = {"mask_resolution": mask_resolution}
    plain, thin = (make_module(STAGE_2, mask_classes, model=model, loss=loss) for loss in ({}, weights))
    logits = thin.network.segment(thin.network.features(batch.images), batch.images)
    probs = losses.mask_probs(logits)[:, :1] if mask_classes == 1 else losses.mask_probs(logits)[:, 1:2]
    targets, valid = losses.mask_targets(batch.masks, tuple(logits.shape[-2:]), mask_classes)  # type: ignore[arg-type]
    truth = losses.thin_targets(batch, (1,))
    expected = (
        2 * losses.cldice_loss(probs, truth, valid, 3)
        + 3 * losses.skeleton_recall_loss(probs, truth, valid)
        + 5 * losses.centerline_loss(logits, targets, valid, truth)
    )
    torch.testing.assert_close(thin.training_step(batch, 0) - plain.training_step(batch, 0), expected)


class Halves:
    """A teacher with the probability 1/2 everywhere, and the share 0.4."""

    def soften(self, targets: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        assert images.shape == (4, 3, 64, 64)
        return 0.6 * targets + 0.2


@pytest.mark.parametrize("mask_classes", [1, 2])
def test_a_teacher_softens_the_targets_of_cross_entropy_and_dice(
    make_module: Callable[..., StageModule], batch: Batch, mask_classes: int
) -> None:
    module = make_module(STAGE_2, mask_classes)
    monitored = module.network.segment(module.network.features(batch.images), batch.images)
    module.teacher = Halves()  # type: ignore[assignment]
    labels, valid = losses.mask_targets(batch.masks, (64, 64), mask_classes)
    targets = 0.6 * labels + 0.2
    expected = losses.pixel_loss(monitored, targets, valid) + losses.dice_loss(monitored, targets, valid)
    torch.testing.assert_close(module.training_step(batch, 0), expected)


def test_a_class_without_a_labeled_pixel_has_no_dice_loss_beside_a_teacher(
    make_module: Callable[..., StageModule], batch: Batch
) -> None:
    module = make_module(STAGE_2, 3, loss={"segmentation": 0.0})  # masks of the classes 0 and 1 alone
    monitored = module.network.segment(module.network.features(batch.images), batch.images)
    module.teacher = Halves()  # type: ignore[assignment]
    labels, _ = losses.mask_targets(batch.masks, (64, 64), 3)
    targets, probs = 0.6 * labels + 0.2, monitored.softmax(1)
    dice = [2 * (probs * targets)[:, m].sum() / (probs + targets)[:, m].sum() for m in (0, 1)]
    torch.testing.assert_close(module.training_step(batch, 0), 1 - (dice[0] + dice[1]) / 2)


@pytest.mark.parametrize("attention", ["mean", "mean_max"])
def test_mask_guidance_adds_its_weight_times_the_mse(
    make_module: Callable[..., StageModule], batch: Batch, attention: str
) -> None:
    stage = {"tasks": ("classification",), "trainable": ("backbone", "attention", "class_head")}
    modules = [
        make_module(stage, model={"attention": attention, "dropout": 0.0}, loss={"mask_guidance": w}) for w in (0, 0.1)
    ]
    for module in modules:
        some(module.network.class_head).dropout.p = 0.0
    plain, guided = (module.training_step(batch, 0) for module in modules)
    network = modules[0].network
    attention_map = some(network.attention)(network.features(batch.images).level5)[1]
    pooled = F.avg_pool2d(batch.masks[:, None].float(), 32)
    mse = F.mse_loss(attention_map, pooled / pooled.amax((1, 2, 3), keepdim=True))
    torch.testing.assert_close(guided - plain, 0.1 * mse, rtol=1e-4, atol=1e-6)


def loader_of(batches: Any) -> DataLoader[Batch]:
    return DataLoader(batches, batch_size=None)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_validation_scores_equal_torchmetrics(
    make_module: Callable[..., StageModule], batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module(model={"mask_resolution": "half"})
    monkeypatch.undo()
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    (scores,) = trainer.validate(module, loader_of([batch, batch]), verbose=False)
    outputs = module.network.eval()(batch.images)
    right = MulticlassAccuracy(3, average="micro")(outputs.class_logits, batch.labels)
    iou = BinaryJaccardIndex()((outputs.mask_logits[:, 0] > 0).int(), batch.masks)
    expected = {"val_accuracy": right.item(), "val_iou": iou.item(), "val_score": (right + iou).item() / 2}
    assert scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*in eval mode at the start")
def test_gradients_are_freed_after_the_optimizer_step(
    make_module: Callable[..., StageModule], batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module()
    monkeypatch.undo()
    before = [p.detach().clone() for p in module.network.parameters()]
    held: list[Any] = []
    watch = LambdaCallback(on_train_batch_end=lambda *_: held.extend(p.grad for p in module.network.parameters()))
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path, max_steps=1,
        callbacks=[watch], limit_val_batches=0, enable_checkpointing=False,
    )  # fmt: skip
    loader = loader_of([batch])
    trainer.fit(module, loader, loader)
    assert held
    assert all(gradient is None for gradient in held)
    assert any((p != old).any() for p, old in zip(module.network.parameters(), before, strict=True))


def test_the_cosine_schedule_equals_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = CosineAnnealingLR(optimizer, T_max=10)
    for step in range(10):
        assert _lr_factor(step, 10, 0, "cosine") == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_the_schedule_begins_after_a_linear_warm_up() -> None:
    assert [_lr_factor(step, 8, 4, "constant") for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert _lr_factor(4, 8, 4, "cosine") == 1
    assert _lr_factor(6, 8, 4, "cosine") == pytest.approx(0.5)


def test_the_backbone_has_its_own_learning_rate_and_frozen_parts_have_none(
    make_module: Callable[..., StageModule],
) -> None:
    module = make_module(
        {"optimizer": "sgd", "lr": 0.1, "backbone_lr": 0.01, "trainable": ("backbone_deep", "decoder")}
    )
    optimizer = _build_optimizer(module.network, module.stage)
    assert isinstance(optimizer, torch.optim.SGD)
    given = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in module.network.named_parameters():
        expected = 0.01 if name.startswith("backbone.") else 0.1
        assert given.get(id(parameter)) == (expected if parameter.requires_grad else None)


def test_padding_does_not_change_the_loss(make_module: Callable[..., StageModule], batch: Batch) -> None:
    module = make_module(
        loss={"cldice": 1.0, "skeleton_recall": 1.0, "centerline": 1.0}
    ).eval()  # the statistics of a batch would include the padding
    lines = batch.masks[:, :60, :50] == 1
    odd = Batch(batch.images[..., :60, :50], batch.masks[:, :60, :50], batch.labels, lines)
    losses_of_odd = module.training_step(odd, 0)
    masks = torch.full_like(batch.masks, IGNORE_INDEX)
    masks[:, :60, :50] = odd.masks
    images = torch.zeros_like(batch.images)
    images[..., :60, :50] = odd.images
    padded = Batch(images, masks, batch.labels, masks == 1)
    torch.testing.assert_close(losses_of_odd, module.training_step(padded, 0))


def test_without_recomputation_a_branch_runs_once_and_gradients_are_the_same(
    make_module: Callable[..., StageModule], batch: Batch
) -> None:
    runs, gradients = [], []
    for recompute in (True, False):
        module, calls = make_module(), list[object]()
        module.recompute = recompute
        module.network.enhancer.levels[0].branches["deform3"].offsets.register_forward_pre_hook(  # type: ignore[union-attr,index]
            lambda *_, calls=calls: calls.append(None)
        )
        module.training_step(batch, 0).backward()
        runs.append(len(calls))
        gradients.append([p.grad for p in module.parameters() if p.grad is not None])
    assert runs == [2, 1]
    torch.testing.assert_close(*gradients)
