"""Tensor names in checkpoints of the upstream MNSA and MGANet code, and their names in this project.

Only names are handled here; `mnsa.model.upstream` reads the shapes. The names are facts of the upstream files.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

# Upstream names -> ours. Levels are numbered from 1 there and from 0 here: {0} is the level here, {1} the kernel.
_RENAMINGS: tuple[tuple[str, str], ...] = (
    (r"attention\.", "attention.score."),
    (r"classifier\.", "class_head.classifier."),
    (r"deconv_layers_([35])\.(\d)\.offset_generator", "enhancer.levels.{0}.branches.deform{1}.offsets"),
    (r"deconv_layers_([35])\.(\d)\.deform_conv", "enhancer.levels.{0}.branches.deform{1}.conv"),
    (r"atrous_conv_layers_([23])\.(\d)", "enhancer.levels.{0}.branches.atrous{1}"),
    (r"max_min_expan_layers()\.(\d)", "enhancer.levels.{0}.branches.context.conv"),
    (r"tranformers()\.(\d)", "enhancer.skips.{0}"),
    (r"center\.", "decoder.bridge.0."),
    (r"center2\.", "decoder.bridge.1."),
    (r"decoder_layers\.1\.layers\.2\.3\.", "mask_head.conv."),
    (r"decoder_layers()\.(\d)\.layers\.1", "decoder.levels.{0}.mix"),
    (r"decoder_layers()\.(\d)\.layers\.2", "decoder.levels.{0}.refine"),
)
# The children of torchvision's ResNet by their numbers in an nn.Sequential.
_RESNET_CHILDREN: Mapping[str, str] = MappingProxyType(
    {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
)
# Tensors whose first dimension is the channels of a branch at level {}, in the order of `mnsa.model.enhancer.BRANCHES`.
BRANCH_TENSORS = (
    "deconv_layers_3.{}.deform_conv.weight",
    "deconv_layers_5.{}.deform_conv.weight",
    "atrous_conv_layers_2.{}.weight",
    "atrous_conv_layers_3.{}.weight",
    "max_min_expan_layers.{}.weight",
)
# Tensors whose first dimension is the mask classes, the classes, the channels of a skip, of an offset predictor.
MASK_TENSOR = "decoder_layers.1.layers.2.3.weight"
CLASS_TENSOR = "classifier.weight"
SKIP_TENSOR = "tranformers.{}.weight"
OFFSET_TENSOR = "deconv_layers_3.1.offset_generator.0.weight"
ATTENTION_TENSOR = "attention.weight"  # only attention `mean_max` has it
BACKBONE_PREFIX, DECODER_PREFIX = "features.", "decoder_layers."


def is_upstream_key(key: str) -> bool:
    """Check whether a key is one of the upstream code. Keys of this project begin with the names of its parts."""
    return re.match(r"(module\.)?(features|Encoders)\.", key) is not None


def rename_key(key: str) -> str:
    """Return our name of a tensor outside the backbone; unknown names stay as they are."""
    for pattern, ours in _RENAMINGS:
        if match := re.match(pattern, key):
            kernel, level = match.groups() or ("", "1")
            return ours.format(int(level) - 1, kernel) + key[match.end() :]
    return key


def strip_backbone_prefix(keys: Iterable[str]) -> dict[str, str]:
    """Return the names inside the backbone -> the keys; some files have the prefix twice."""
    keys = list(keys)
    is_nested = all(key.startswith(2 * BACKBONE_PREFIX) for key in keys)
    prefix = 2 * BACKBONE_PREFIX if is_nested else BACKBONE_PREFIX
    return {key.removeprefix(prefix): key for key in keys}


def backbone_key(backbone: str, key: str) -> str:
    """Return our name of a backbone tensor that torchvision, or a numbered Sequential, calls `key`."""
    if not backbone.startswith("resnet"):
        return f"backbone.net.features.{key}"
    first, _, rest = key.partition(".")
    return f"backbone.net.{_RESNET_CHILDREN.get(first, first)}.{rest}"


def original_keys(key: str) -> tuple[str, ...]:
    """Return the possible names of the tensor that `key` duplicates; empty if `key` is no duplicate."""
    if match := re.match(r"Encoders\.\d\.(.+)", key):
        return f"features.features.{match[1]}", f"features.{match[1]}"
    if match := re.match(r"features\.(?:classifier|fc)\.(weight|bias)$", key):
        return (f"classifier.{match[1]}",)
    return ()
