"""Backbones: five levels for every timm model, and the modules that the paper's stage 1 freezes."""

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from mnsa.errors import ModelError
from mnsa.model.backbone import Backbone, SamePaddedConv2d
from narrowing import some

ALL_NAMES = [
    "densenet161",
    "densenet121",
    "resnet50",
    "resnet34",
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "vgg19",
    "tf_efficientnet_lite0",
    "convnext_atto",
]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_levels_have_strides_2_to_32_and_the_declared_channels(name: str) -> None:
    with torch.device("meta"):
        backbone = Backbone(name).eval()
        pyramid = backbone(torch.empty(1, 3, 64, 96))
    assert [tuple(level.shape[2:]) for level in pyramid] == [(64 >> n, 96 >> n) for n in (1, 2, 3, 4, 5)]
    assert tuple(level.shape[1] for level in pyramid) == backbone.channels


def test_the_levels_of_a_densenet_are_those_of_the_method() -> None:
    torch.manual_seed(0)
    backbone = Backbone("densenet121").eval()
    net, images = backbone.net, torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        level1, *_, level5 = backbone(images)
        stem = nn.functional.relu(_plain_norm(net["features_norm0"], net["features_conv0"](images)))
        deep = images
        for name, module in net.items():
            deep = module(deep) if name != "features_norm5" else _plain_norm(module, deep)
    torch.testing.assert_close(level1, stem)
    torch.testing.assert_close(level5, deep)
    assert level5.min() < 0 <= level1.min()


def _plain_norm(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    assert isinstance(norm, nn.BatchNorm2d)
    return nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def frozen_names(name: str) -> set[str]:
    with torch.device("meta"):
        backbone = Backbone(name)
    shallow = {id(p) for module in backbone.shallow_modules() for p in module.parameters()}
    return {key.removesuffix(".weight") for key, p in backbone.net.named_parameters() if id(p) in shallow}


def test_the_shallow_part_of_a_densenet_ends_with_transition2() -> None:
    tops = {name.split(".")[0].removeprefix("features_") for name in frozen_names("densenet121")}
    assert tops == {"conv0", "norm0", "denseblock1", "transition1", "denseblock2", "transition2"}


def test_the_shallow_part_of_a_resnet_ends_with_layer2() -> None:
    assert {name.split(".")[0] for name in frozen_names("resnet18")} == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize("name", ["vgg19", "vgg19.tv_in1k"])
def test_the_shallow_part_of_vgg_is_the_first_21_modules(name: str) -> None:
    tops = {int(key.split(".")[0].removeprefix("features_")) for key in frozen_names(name)}
    assert tops == {0, 2, 5, 7, 10, 12, 14, 16, 19}


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_the_shallow_part_of_a_mobilenet_is_the_stem_and_nine_blocks(name: str) -> None:
    names = frozen_names(name)
    blocks = {tuple(key.split(".")[1:3]) for key in names if key.startswith("blocks.")}
    assert len(blocks) == 9
    assert {"conv_stem", "bn1"} <= names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cspnext_s", ["model.stages.0.", "model.stages.1.", "model.stem."]),
        (
            "legacy_xception",
            ["body.block1.", "body.block2.", "body.block3.skip", "body.bn1", "body.bn2", "body.conv1", "body.conv2"],
        ),
    ],
)
def test_models_that_timm_wraps_have_a_shallow_part(name: str, expected: list[str]) -> None:
    frozen = frozen_names(name)
    assert frozen
    assert {next((top for top in expected if key.startswith(top)), key) for key in frozen} == set(expected)


def test_the_shallow_part_of_other_models_computes_levels_1_to_3() -> None:
    backbone = Backbone("tf_efficientnet_lite0").eval()
    images = torch.randn(1, 3, 64, 64)
    before = backbone(images)
    deep = [m for m in backbone.net.modules() if isinstance(m, nn.Conv2d) and m not in backbone.shallow_modules()]
    for module in deep:
        nn.init.zeros_(module.weight)
    after = backbone(images)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, True, False, False]


def test_an_added_stem_is_not_in_the_shallow_part() -> None:
    backbone = Backbone("convnext_atto")
    assert backbone.stem is not None
    assert not set(backbone.stem.modules()) & set(backbone.shallow_modules())


def test_the_normalization_is_that_of_timm() -> None:
    assert Backbone("tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)
    assert Backbone("resnet18").std == some(timm.get_pretrained_cfg("resnet18")).std


def test_the_error_for_an_unknown_name_suggests_similar_names() -> None:
    with pytest.raises(ModelError, match=r"'resnet81'.*resnet18"):
        Backbone("resnet81")


def test_the_error_for_other_strides_names_them() -> None:
    with pytest.raises(ModelError, match=r"strides \[16, 16, 16\]; expected 2, 4, 8, 16, 32"):
        Backbone("vit_tiny_patch16_224")


def test_a_model_for_one_image_size_is_an_error() -> None:
    with pytest.raises(ModelError, match="one image size"):
        Backbone("swin_tiny_patch4_window7_224")


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 2), (1, 2, 1)])
def test_constant_same_padding_equals_that_of_timm(kernel: int, stride: int, dilation: int) -> None:
    conv = Conv2dSame(3, 4, kernel, stride=stride, dilation=dilation)
    features = torch.randn(2, 3, 12, 32)
    torch.testing.assert_close(SamePaddedConv2d(conv)(features), conv(features), rtol=0, atol=0)
