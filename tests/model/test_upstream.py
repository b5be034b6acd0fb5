"""Checkpoints of the upstream code: the config is inferred from the shapes, and every key must fit."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from mnsa.config import ModelConfig
from mnsa.errors import ModelError
from mnsa.model.network import Network, build_network
from mnsa.model.upstream import convert_upstream, is_upstream
from upstream_names import mganet_state, upstream_state

pytestmark = pytest.mark.slow


SHAPES = Path(__file__).parents[2].parent / "shared" / "parity" / "state_dict_shapes.json"
WIDTHS = (1 / 8, 1 / 16, 1 / 4, 1 / 8, 1 / 16)


def network_of(
    backbone: str = "resnet18",
    attention: Literal["none", "mean", "mean_max"] = "mean_max",
    classes: Any = 7,
    mask_classes: Any = 1,
    **given: float,
) -> tuple[ModelConfig, Network]:
    config: dict[str, Any] = {"widths": WIDTHS, "skip_ratio": 0.125, "offset_channels": 4, **given}
    model = ModelConfig(preset="paper", backbone=backbone, pretrained="none", attention=attention, **config)
    return model, build_network(model, classes, mask_classes)


def small_state(**given: Any) -> dict[str, torch.Tensor]:
    return upstream_state(network_of(mask_classes=0, **given)[1])


@pytest.mark.parametrize("skip_ratio", [0.0, 0.125, 0.25, 0.5])
@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_backbone_classes_widths_and_skip_ratio_are_inferred_from_the_shapes(backbone: str, skip_ratio: float) -> None:
    with torch.device("meta"):
        model, network = network_of(backbone, skip_ratio=skip_ratio)
    state = {key: torch.zeros(()).expand(value.shape) for key, value in upstream_state(network).items()}
    found = convert_upstream(state)
    assert found.model == model
    assert (found.classes, found.mask_classes) == (7, 1)


@pytest.mark.parametrize("wrapping", ["", "module."])
def test_every_tensor_is_converted_to_our_names(wrapping: str) -> None:
    _, network = network_of(mask_classes=0)
    found = convert_upstream({wrapping + key: value for key, value in upstream_state(network).items()})
    ours = network.state_dict()
    assert found.state.keys() == ours.keys()
    assert all(torch.equal(found.state[key], value) for key, value in ours.items())


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121", "vgg19"])
def test_mganet_is_converted_to_a_classifier(backbone: str) -> None:
    with torch.device("meta"):
        _, network = network_of(backbone, mask_classes=0)
    state = {key: torch.zeros(()).expand(value.shape) for key, value in mganet_state(network).items()}
    found = convert_upstream(state)
    assert (found.model.backbone, found.classes, found.mask_classes) == (backbone, 7, 0)


def test_a_resnet_with_numbered_children_gives_the_same_result() -> None:
    _, network = network_of(mask_classes=0)
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    state = mganet_state(network)
    for name, number in numbers.items():
        state = {key.replace(f"features.{name}.", f"features.{number}.", 1): v for key, v in state.items()}
    assert torch.equal(convert_upstream(state).state["backbone.net.layer4.1.bn2.bias"], state["features.7.1.bn2.bias"])


@pytest.mark.parametrize("key", ["Encoders.5.layer4.1.bn2.bias", "features.classifier.bias"])
def test_the_error_for_differing_copies_names_them(key: str) -> None:
    state = small_state()
    state[key] = state[key] + 1
    with pytest.raises(ModelError, match=key.replace(".", r"\.")):
        convert_upstream(state)


def test_the_error_names_every_key_that_does_not_fit() -> None:
    _, network = network_of()
    state = upstream_state(network)
    del state["center2.bias"]
    state["attention.weight"] = torch.zeros(1, 3, 1, 1)
    state["lost.weight"] = torch.zeros(1)
    with pytest.raises(ModelError) as refusal:
        convert_upstream(state)
    said = str(refusal.value)
    assert "decoder.bridge.1.bias is missing" in said
    assert "attention.weight is (1, 3, 1, 1), not (1, 2, 1, 1)" in said
    assert "lost.weight is unknown" in said


def test_the_error_for_an_unknown_backbone_compares_with_the_nearest_one() -> None:
    state = small_state()
    del state["features.layer4.1.bn2.bias"], state["Encoders.5.layer4.1.bn2.bias"]
    with pytest.raises(ModelError, match=r"resnet18, the nearest.*layer4\.1\.bn2\.bias is missing"):
        convert_upstream(state)


def test_an_attention_without_weights_must_be_given() -> None:
    state = small_state(attention="mean")
    with pytest.raises(ModelError, match="--attention"):
        convert_upstream(state)
    assert convert_upstream(state, "mean").model.attention == "mean"
    with pytest.raises(ModelError, match="mean_max, not none"):
        convert_upstream(small_state(), "none")


def test_a_state_dict_of_this_project_is_not_upstream() -> None:
    _, network = network_of(mask_classes=0)
    assert is_upstream(upstream_state(network))
    assert not is_upstream(network.state_dict())


def test_all_keys_and_shapes_of_the_upstream_network_are_converted() -> None:
    if not SHAPES.is_file():
        pytest.skip(f"the upstream code's keys are not at {SHAPES}")
    shapes = json.loads(SHAPES.read_text())
    found = convert_upstream({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    assert (found.model.backbone, found.classes, found.mask_classes) == ("densenet161", 200, 1)
    assert found.model == ModelConfig(preset="paper", pretrained="none", widths=(1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8))
