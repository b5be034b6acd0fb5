"""Any convolutional timm model as a feature pyramid of five levels.

B batch; level l has C_l channels and stride 2^l.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.errors import ConfigError, ModelError
from mnsa.model.ops.depthwise_conv import depthwise_conv, is_depthwise, trains_faster
from mnsa.own_parts import load_own_part, own_parts
from mnsa.structures import FeaturePyramid

# Names in the paper's code -> timm's names.
BACKBONE_ALIASES: Mapping[str, str] = MappingProxyType(
    {"mobilenet_v2": "mobilenetv2_100", "mobilenet_v3_large": "mobilenetv3_large_100"}
)
BACKBONE_FAMILIES = ("densenet", "mobilenet")  # the method has special rules for these
# The last module that the paper's stage 1 freezes, by family. For other families it is the module of level 3.
LAST_SHALLOW: Mapping[str, str] = MappingProxyType({"densenet": "features.transition2", "vgg19": "features.20"})
MOBILENET_SHALLOW_BLOCKS = 9  # with the stem: torchvision's first 10 feature blocks
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # of an own backbone without its own
STRIDES = [2, 4, 8, 16, 32]
BACKBONE_HINT = "Use a convolutional model such as tf_efficientnet_lite0, resnet50 or convnext_atto."


class Conv2d(nn.Conv2d):
    """A convolution with the weights of another one; faster where it is depthwise and trained in bfloat16 on a CPU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        bias = conv.bias is not None
        shape = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation
        super().__init__(*shape, conv.groups, bias, conv.padding_mode, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias

    def _conv_forward(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        in_bfloat16 = features.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        if in_bfloat16 and torch.is_grad_enabled() and trains_faster(self, features):
            return depthwise_conv(features, weight, bias, self.stride, self.padding, self.dilation)  # type: ignore[arg-type]
        convolved: Tensor = super()._conv_forward(features, weight, bias)
        return convolved


class SamePaddedConv2d(Conv2d):
    """TensorFlow's SAME convolution for maps whose sides are multiples of its stride, so that its padding is constant.

    timm computes the padding from the size of each map, with formulas that exporters can't trace.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__(conv)
        self.padding = (0, 0)
        sides = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        tall, wide = (max(0, (k - 1) * dilation + 1 - stride) for k, stride, dilation in sides)
        self.border = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)  # left, right, top, bottom

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W), H and W multiples of the stride -> (B, O, H / stride, W / stride)."""
        return super().forward(F.pad(features, self.border))


class Backbone(nn.Module):
    """Images (B, 3, H, W), H and W multiples of 32 -> FeaturePyramid.

    A model with strides 4..32 gets a new stem for level 1: a 3x3 convolution of stride 2, BatchNorm, ReLU.
    channels: C_1..C_5. mean, std: normalization of the images, per channel, for values in 0..1.
    family: `densenet`, `mobilenet`, or the model's name without its tag of pretrained weights.
    Raises: ModelError when timm has no such model or its feature maps have other strides.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.timm_name = BACKBONE_ALIASES.get(name, name)
        self.family = next(
            (f for f in BACKBONE_FAMILIES if self.timm_name.startswith(f)), self.timm_name.partition(".")[0]
        )
        self.is_own = name in own_parts("backbones")
        if self.is_own:
            self.net, channels = _own_backbone(name)
            self.mean, self.std = (tuple(getattr(self.net, key, default)) for key, default in _IMAGENET.items())
        else:
            self.net = _feature_extractor(self.timm_name)
            self.mean, self.std = _normalization(self.timm_name)
            channels = tuple(self.net.feature_info.channels())
        self.stem = _level1_stem(channels[0] // 2) if len(channels) == len(STRIDES) - 1 else None
        self.channels: tuple[int, ...] = channels if self.stem is None else (channels[0] // 2, *channels)
        for path, module in list(self.net.named_modules()):
            if isinstance(module, Conv2dSame):
                self.net.set_submodule(path, SamePaddedConv2d(module))
            elif type(module) is nn.Conv2d and is_depthwise(module):
                self.net.set_submodule(path, Conv2d(module))
        if self.family == "densenet":
            self.net["features_norm5"].act = nn.Identity()  # attention reads the map before the last ReLU

    def forward(self, images: Tensor) -> FeaturePyramid:
        """Normalized images (B, 3, H, W) -> the five levels."""
        levels = self.net(images)
        return FeaturePyramid(*levels) if self.stem is None else FeaturePyramid(self.stem(images), *levels)

    def shallow_modules(self) -> list[nn.Module]:
        """Return the modules that the paper's stage 1 freezes, never an added stem; none of an own backbone.

        Source: method section 2.
        """
        if self.is_own:
            return []
        children = dict(self.net.named_children())
        wrapped = next(iter(children.values())) if children.keys() in ({"model"}, {"body"}) else self.net
        last = self._last_shallow(wrapped)
        modules = [(flat_name(name), module) for name, module in wrapped.named_modules() if name]
        end = max(i for i, (name, _) in enumerate(modules) if f"{name}_".startswith(f"{last}_"))
        return [module for _, module in modules[: end + 1] if any(True for _ in module.parameters(recurse=False))]

    def _last_shallow(self, net: Any) -> str:
        if self.family == "mobilenet":
            blocks = [f"blocks_{s}_{b}" for s, stage in enumerate(net.blocks) for b in range(len(stage))]
            return blocks[MOBILENET_SHALLOW_BLOCKS - 1]
        return flat_name(LAST_SHALLOW.get(self.family, self.net.feature_info.module_name()[-3]))


def _own_backbone(name: str) -> tuple[Any, tuple[int, ...]]:
    """Build a backbone of another package: `mnsa.backbones`. Raises: ConfigError when it has no five levels."""
    net = load_own_part("backbones", name)()
    channels = tuple(getattr(net, "channels", ()))
    if not isinstance(net, nn.Module) or len(channels) != len(STRIDES):
        raise ConfigError(
            f"The backbone {name!r} is no torch module with `channels`, the {len(STRIDES)} numbers of channels of its "
            f"feature maps at strides {', '.join(map(str, STRIDES))}."
        )
    return net, channels


def flat_name(name: str) -> str:
    """Return a name with dots as underscores. timm flattens some models: features.conv0 becomes features_conv0."""
    return name.replace(".", "_")


def _normalization(timm_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cfg: Any = timm.get_pretrained_cfg(timm_name)
    return tuple(cfg.mean), tuple(cfg.std)


def _level1_stem(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(3, channels, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _feature_extractor(timm_name: str) -> Any:
    if not timm.is_model(timm_name):
        near = get_close_matches(timm_name, [*BACKBONE_ALIASES, *timm.list_models()], n=3)
        hint = f"the nearest names are {', '.join(near)}" if near else "timm.list_models() lists them"
        raise ModelError(f"timm has no model {timm_name!r} for a backbone; {hint}.")
    try:
        net: Any = timm.create_model(timm_name, features_only=True, pretrained=False)
    except (RuntimeError, AttributeError, NotImplementedError, AssertionError, ValueError) as error:
        raise ModelError(f"timm's {timm_name!r} has no feature maps, so it can't be a backbone: {error}.") from None
    strides = list(net.feature_info.reduction())
    if strides[-5:] != STRIDES and strides != STRIDES[1:]:
        raise ModelError(
            f"backbone {timm_name!r} has feature maps at strides {strides}; "
            f"expected 2, 4, 8, 16, 32 or 4, 8, 16, 32. {BACKBONE_HINT}"
        )
    cfg: Any = timm.get_pretrained_cfg(timm_name)
    if cfg.fixed_input_size or getattr(net, "output_fmt", "NCHW") != "NCHW":
        raise ModelError(
            f"backbone {timm_name!r} accepts one image size only, or has channels-last feature maps. {BACKBONE_HINT}"
        )
    if len(strides) <= len(STRIDES):
        return net
    return timm.create_model(timm_name, features_only=True, pretrained=False, out_indices=(-5, -4, -3, -2, -1))  # VGG
