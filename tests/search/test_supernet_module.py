"""A step of a supernet trains the widest network by the masks, and three slices by its answers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mnsa.config import Config, ModelConfig
from mnsa.model.network import Network, build_network
from mnsa.search.slices import SubNetwork
from mnsa.search.space import build_search_space
from mnsa.search.supernet import make_widest_config
from mnsa.search.supernet_module import SupernetModule, WidthSampler
from mnsa.structures import Batch
from mnsa.training.module import StageModule

SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder")}
SEARCH = {"ratios": (0.125, 0.25), "skip_ratios": (0.0, 0.5), "decoder_widths": ((8, 8, 4, 8, 8), (4, 8, 8, 8, 8))}


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    return Batch(images, torch.randint(0, 2, (4, 64, 64), generator=generator), torch.tensor([0, 1, 2, 0]))


@pytest.fixture
def make_module(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def make(stage: dict[str, Any] | None = None, **sections: dict[str, Any]) -> SupernetModule:
        torch.manual_seed(3)
        config = make_config(stage or SECOND, search=SEARCH, **sections)
        space = build_search_space(config)
        network = build_network(make_widest_config(config, space).model, 3, 1)
        sampler = WidthSampler(config, space)
        module = SupernetModule(
            network, config.stages[0], config.loss, mask_classes=1, class_weights=None, widths=sampler
        ).train()
        monkeypatch.setattr(module, "log", lambda *_, **__: None)  # without a trainer, logging fails
        return module

    return make


def models(module: SupernetModule, step: int) -> list[ModelConfig]:
    return list(module.widths.narrow_models("second", step))


def test_the_widest_network_has_the_largest_value_of_everything(make_module: Callable[..., SupernetModule]) -> None:
    config = make_module().widths.config
    widest = make_widest_config(config, build_search_space(config)).model
    assert (widest.widths, widest.skip_ratio, widest.decoder_channels) == ((0.25,) * 5, 0.5, (8, 8, 8, 8, 8))


def test_a_step_draws_the_smallest_and_two_others_by_its_number_alone(
    make_module: Callable[..., SupernetModule],
) -> None:
    module = make_module()
    smallest, *others = models(module, 7)
    assert (smallest.widths, smallest.skip_ratio, smallest.decoder_channels) == ((0.125,) * 5, 0.0, (8, 8, 4, 8, 8))
    assert len(others) == 2
    assert models(make_module(), 7) == [smallest, *others]
    assert len({str(models(module, step)[1:]) for step in range(6)}) == 6


def test_the_loss_is_the_mean_of_the_widest_by_masks_and_of_the_slices_by_its_answers(
    make_module: Callable[..., SupernetModule], batch: Batch
) -> None:
    module = make_module(loss={"dice": 0.0})
    total, terms = module.compute_loss(batch)
    network: Network = module.network
    pyramid = network.features(batch.images)
    wide = network.segment(pyramid, batch.images)
    expected = [F.binary_cross_entropy_with_logits(wide[:, 0], batch.masks.float())]
    for model in models(module, 0):
        slim = SubNetwork(network, model, 1)
        slim.train()
        logits = slim.segment(pyramid, batch.images)[0]
        expected.append(F.binary_cross_entropy_with_logits(logits, wide.detach().sigmoid()))
    torch.testing.assert_close(terms["segmentation"][1], torch.stack(expected).mean())
    torch.testing.assert_close(total, terms["segmentation"][1])


def test_the_slices_teach_the_widest_network_nothing(
    make_module: Callable[..., SupernetModule], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels that no slice has get a quarter of the gradient that they get without slices, and nothing else."""
    module = make_module()
    plain = StageModule(module.network, module.stage, module.loss, mask_classes=1, class_weights=None).train()
    smallest = models(module, 0)[0]
    monkeypatch.setattr(WidthSampler, "narrow_models", lambda *_: iter([smallest] * 3))
    gradients = []
    for one in (plain, module):
        one.network.zero_grad()
        one.compute_loss(batch)[0].backward()
        kernel = one.network.get_parameter("decoder.levels.2.mix.0.weight")  # the smallest has 4 of 8 channels
        assert kernel.grad is not None
        gradients.append(kernel.grad[4:].clone())
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0] / 4, rtol=1e-4, atol=1e-8)


def test_class_losses_count_once(make_module: Callable[..., SupernetModule], batch: Batch) -> None:
    both = {"name": "second", "tasks": ("classification", "segmentation")}
    module = make_module({**both, "trainable": ("class_head", "enhancer", "decoder")}, model={"dropout": 0.0})
    plain = StageModule(module.network, module.stage, module.loss, mask_classes=1, class_weights=None).train()
    mine, theirs = (one.compute_loss(batch)[1] for one in (module, plain))
    assert set(mine) == set(theirs)
    torch.testing.assert_close(mine["classification"], theirs["classification"])
