"""Properties of every network, for any backbone, attention, decoder and input size."""

import shutil
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mnsa.config import DataConfig, LossConfig, ModelConfig, StageConfig
from mnsa.config.section import NetworkPart
from mnsa.model import network as network_module
from mnsa.model.backbone import Backbone
from mnsa.model.heads import AttentionKind
from mnsa.model.network import Network, build_network
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import ModelSpec
from mnsa.structures import Batch, NetworkOutputs
from mnsa.training.module import StageModule, _build_optimizer
from narrowing import some

DecoderKind = Literal["enhanced", "unet", "unet3plus"]
BACKBONES = [
    "densenet161",
    "densenet121",
    "resnet50",
    "resnet34",
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "vgg19",
    "tf_efficientnet_lite0",
    "convnext_atto",  # four levels of its own
]
ATTENTIONS: list[AttentionKind] = ["none", "mean", "mean_max"]
DECODERS: list[DecoderKind] = ["enhanced", "unet", "unet3plus"]
SIZES = [(32, 33), (70, 45), (41, 64)]
Parts = tuple[NetworkPart, ...]
STEP: dict[str, Any] = {"epochs": 1, "batch_size": 2, "optimizer": "sgd", "lr": 0.1}


class Kind(NamedTuple):
    """One network to test."""

    backbone: str
    attention: AttentionKind
    decoder: DecoderKind

    @property
    def config(self) -> ModelConfig:
        """Everything else narrow; the head at half resolution in a third of the networks."""
        return ModelConfig(
            backbone=self.backbone,
            pretrained="none",
            attention=self.attention,
            decoder=self.decoder,
            mask_resolution="half" if self.attention == "none" else "full",
            widths=(0.01,) * 5,
            offset_channels=4,
            bridge_channels=8,
            decoder_channels=(6, 6, 8, 8, 8),
            source_channels=4,
        )


QUICK = {
    Kind("resnet18", "none", "unet"),
    Kind("tf_efficientnet_lite0", "mean_max", "enhanced"),
    Kind("mobilenet_v3_large", "mean", "unet3plus"),
    Kind("convnext_atto", "mean_max", "enhanced"),
}
KINDS = [
    pytest.param(kind, id="-".join(kind), marks=() if kind in QUICK else pytest.mark.slow)
    for kind in (Kind(*names) for names in product(BACKBONES, ATTENTIONS, DECODERS))
]

# timm's initialization takes longer than the tests of most networks.
backbone_once = lru_cache(maxsize=1)(Backbone)


@pytest.fixture(scope="module", autouse=True)
def _backbones_are_built_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "Backbone", lambda name: deepcopy(backbone_once(name)))
        yield


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="module")
def network(kind: Kind) -> Network:
    """One network for all tests of its kind. Each test compares with the state that it finds."""
    torch.manual_seed(0)
    return build_network(kind.config, classes=3, mask_classes=2)


def test_outputs_have_the_size_of_the_images(kind: Kind, network: Network) -> None:
    network.eval()
    with torch.inference_mode():
        for height, width in SIZES:
            outputs = network(torch.randn(1, 3, height, width))
            assert outputs.class_logits.shape == (1, 3)
            assert outputs.mask_logits.shape == (1, 2, height, width)
            assert (outputs.attention is None) is (kind.attention == "none")
            assert outputs.attention is None or 0 < outputs.attention.min() <= outputs.attention.max() < 1


def test_every_parameter_gets_a_gradient(network: Network) -> None:
    network.train().requires_grad_(True).zero_grad()
    for parameter in network.parameters():
        if not parameter.any():  # zero offsets and residual branches would block the gradients of layers before them
            torch.nn.init.normal_(parameter, std=0.1)
    outputs: NetworkOutputs = network(torch.randn(2, 3, 70, 45))
    (some(outputs.class_logits).square().mean() + some(outputs.mask_logits).square().mean()).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A BatchNorm cancels a bias right before it: that gradient is zero, up to rounding.
    assert [name for name in idle if not name.endswith(".bias")] == []


def changed_by(stage: StageConfig, kind: Kind, network: Network) -> set[str]:
    """Train one step of the stage, and return the names of the changed tensors: weights and statistics."""
    guidance = 0.0 if kind.attention == "none" else 0.1
    loss = LossConfig(mask_guidance=guidance, deep_supervision=True)
    module = StageModule(network, stage, loss, mask_classes=2, class_weights=None).train()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # without a trainer, logging fails
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batch = Batch(torch.randn(2, 3, 32, 64), torch.randint(0, 2, (2, 32, 64)), torch.tensor([0, 2]))
    network.zero_grad()
    optimizer = _build_optimizer(network, stage)
    module.training_step(batch, 0).backward()
    optimizer.step()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def in_parts(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_stage_1_updates_frozen_statistics_but_no_frozen_weight(kind: Kind, network: Network) -> None:
    trainable: Parts = ("backbone_deep", "attention", "class_head")
    stage = StageConfig(name="first", tasks=("classification",), trainable=trainable, frozen_bn="train", **STEP)
    changed = changed_by(stage, kind, network)
    shallow = {id(p) for module in network.backbone.shallow_modules() for p in module.parameters()}
    parameters = dict(network.named_parameters())
    frozen = {name for name, p in parameters.items() if id(p) in shallow}
    assert frozen
    assert frozen.isdisjoint(changed)
    assert in_parts(changed) == {"backbone", "class_head"} | ({"attention"} if kind.attention == "mean_max" else set())
    assert {name for name in parameters if name.startswith("backbone.net.")} - frozen & changed
    assert set(statistics_of(network, shallow)) <= changed


def statistics_of(network: Network, shallow: set[int]) -> Iterator[str]:
    """Return the names of the statistics of BatchNorms with frozen weights."""
    for name, module in network.backbone.named_modules(prefix="backbone"):
        if isinstance(module, _BatchNorm) and id(module.weight) in shallow:
            yield from (f"{name}.running_mean", f"{name}.running_var")


def test_stage_2_changes_only_the_decoder(kind: Kind, network: Network) -> None:
    decoding: Parts = ("enhancer", "decoder")
    trainable = tuple(part for part in decoding if part in network.parts())
    stage = StageConfig(name="second", tasks=("segmentation",), trainable=trainable, **STEP)
    changed = changed_by(stage, kind, network)
    assert in_parts(changed) == {"decoder", "mask_head"} | ({"enhancer"} if kind.decoder == "enhanced" else set())


def test_a_loaded_network_equals_the_saved_one(kind: Kind, network: Network, tmp_path: Path) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():  # so that no tensor has its initial value
            tensor.mul_(1.01) if tensor.is_floating_point() else tensor.add_(1)
    save_network(tmp_path, network, ModelSpec(kind.config, DataConfig(), ("a", "b", "c"), ("background", "vein")))
    loaded, card = load_network(tmp_path)
    assert card.model == kind.config
    saved, found = network.state_dict(), loaded.state_dict()
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    images = torch.randn(1, 3, 33, 64)
    with torch.inference_mode():
        for ours, theirs in zip(network.eval()(images), loaded(images), strict=True):
            assert ours is theirs is None or torch.equal(ours, theirs)
    shutil.rmtree(tmp_path)  # 90 networks of up to 130 MB


@pytest.mark.parametrize("kind", [param for param in KINDS if not param.marks], indirect=True)
def test_the_memory_format_changes_no_output(network: Network) -> None:
    network.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        plain = network(images)
        network.to(memory_format=torch.channels_last)
        channels_last = network(images.contiguous(memory_format=torch.channels_last))
    for a, b in zip(plain, channels_last, strict=True):
        assert a is b is None or torch.allclose(a, b, rtol=1e-3, atol=1e-4)
