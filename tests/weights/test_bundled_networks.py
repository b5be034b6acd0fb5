"""The networks in the package: found by name, read in float32, and a start for the training of other networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mnsa
import mnsa.weights
from mnsa.config import Config
from mnsa.errors import ModelError
from mnsa.model.network import build_network


@pytest.fixture
def without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnsa.weights, "FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)


def test_without_its_weights_the_error_says_what_to_do(without_weights: None, make_config: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"without the weights of 'veins'.*veins_pretrain\.toml"):
        mnsa.load("veins")
    with pytest.raises(ModelError, match="without the weights of 'veins'"):
        build_network(make_config(model={"pretrained": "veins"}).model, 2, 1)


def test_the_name_gives_a_network_in_float32(bundled_veins: Path) -> None:
    for source in ("veins", Path("veins")):
        predictor = mnsa.load(source)
        assert predictor.source == bundled_veins
        assert predictor.mask_classes == ("vein",)
        assert {parameter.dtype for parameter in predictor.network.parameters()} == {torch.float32}


def test_a_folder_of_its_name_with_a_model_comes_first(
    bundled_veins: Path, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "veins").mkdir()
    assert mnsa.load("veins").source == bundled_veins  # a folder of masks is no model
    (tmp_path / "veins" / "model").symlink_to(finished.model_folder)
    assert mnsa.load("veins").classes == ("cultivar_01", "cultivar_02", "cultivar_03")


def test_it_starts_another_network_with_a_new_class_head(bundled_veins: Path, make_config: Callable[..., Any]) -> None:
    given = load_file(bundled_veins / "model.safetensors")
    network = build_network(make_config(model={"pretrained": "veins"}).model, classes=3, mask_classes=1).state_dict()
    assert {name.split(".")[0] for name in network.keys() - given.keys()} == {"attention", "class_head"}
    for name, value in given.items():
        torch.testing.assert_close(network[name], value.to(network[name].dtype))


def test_for_other_mask_classes_only_the_last_convolution_is_new(
    bundled_veins: Path, make_config: Callable[..., Any]
) -> None:
    given = load_file(bundled_veins / "model.safetensors")
    network = build_network(make_config(model={"pretrained": "veins"}).model, classes=0, mask_classes=3).state_dict()
    new = {name for name, value in given.items() if network[name].shape != value.shape}
    assert new == {"mask_head.conv.weight", "mask_head.conv.bias"}
    for name in given.keys() - new:
        torch.testing.assert_close(network[name], given[name].to(network[name].dtype))


def test_another_backbone_is_an_error(bundled_veins: Path, make_config: Callable[..., Config]) -> None:
    config = make_config(model={"pretrained": "veins", "backbone": "resnet18"}).model
    with pytest.raises(ModelError, match="no weights of the backbone resnet18"):
        build_network(config, 2, 1)
