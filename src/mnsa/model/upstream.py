"""Convert checkpoints of the upstream MNSA and MGANet code: infer the config from the shapes, and rename the tensors.

The shapes in the state dict give the backbone, the classes, the widths and the skip ratio. The names are facts of the
upstream files.
C_l channels of level l. Source: method section 1.
"""

import re
from collections.abc import Iterable, Mapping
from math import floor
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mnsa.config import ModelConfig
from mnsa.errors import ModelError
from mnsa.model.backbone import Backbone, flat_name
from mnsa.model.enhancer import BRANCHES, LEVELS
from mnsa.model.heads import AttentionKind
from mnsa.model.network import build_network

BACKBONES = ("densenet161", "densenet121", "resnet18", "resnet34", "resnet50", "vgg19")
WIDTH_RATIOS = (1 / 16, 1 / 8, 1 / 4)
SKIP_RATIOS = (0.0, 0.125, 0.25, 0.5)

StateDict = Mapping[str, Tensor]
Renamed = dict[str, tuple[str, Tensor]]  # our name -> upstream name and tensor

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


class UpstreamCheckpoint(NamedTuple):
    """An upstream network in this project's terms: the arguments of `build_network`, and the weights to load."""

    model: ModelConfig
    classes: int
    mask_classes: int
    state: dict[str, Tensor]


def is_upstream(state: StateDict) -> bool:
    """Check whether a state dict has the names of the upstream code."""
    return any(map(is_upstream_key, state))


def convert_upstream(state: StateDict, attention: AttentionKind | None = None) -> UpstreamCheckpoint:
    """Convert a state dict of the upstream MNSA code (with or without its decoder) or of MGANet.

    attention: needed if the file has no attention weights, because `none` and `mean` have none.
    Raises: ModelError naming every key that doesn't fit, or the setting that the shapes don't determine.
    """
    state = _drop_duplicates({key.removeprefix("module."): value for key, value in state.items()})
    if CLASS_TENSOR not in state:
        raise ModelError(f"The checkpoint has no {CLASS_TENSOR}, so it is not of the upstream MNSA or MGANet code.")
    backbone, renamed = _find_backbone({key: value for key, value in state.items() if key.startswith(BACKBONE_PREFIX)})
    for key, value in state.items():
        if not key.startswith(BACKBONE_PREFIX):
            renamed[rename_key(key)] = key, value
    config: dict[str, Any] = {
        "backbone": backbone,
        "pretrained": "none",
        "attention": _infer_attention(state, attention),
    }
    segments = any(key.startswith(DECODER_PREFIX) for key in state)
    if segments:
        config |= _infer_segmentation(state, Backbone(backbone).channels)
    checkpoint = UpstreamCheckpoint(
        ModelConfig(preset="paper", **config),
        classes=len(state[CLASS_TENSOR]),
        mask_classes=len(state[MASK_TENSOR]) if segments else 0,
        state={ours: value for ours, (_, value) in renamed.items()},
    )
    _require_all_keys(checkpoint, renamed)
    return checkpoint


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


def _drop_duplicates(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove tensors that are stored twice. Raises: ModelError when the copies differ: either may be the right one."""
    unique, differing = dict(state), []
    for key, value in state.items():
        originals = original_keys(key)
        if not originals:
            continue
        original = next((state[name] for name in originals if name in state), None)
        if original is None or original.shape != value.shape or not torch.equal(original, value):
            differing.append(key)
        del unique[key]
    if differing:
        raise ModelError(
            f"These tensors should equal their originals in the backbone or classifier: {'; '.join(differing)}."
        )
    return unique


def _find_backbone(state: StateDict) -> tuple[str, Renamed]:
    """Find the backbone that has exactly these tensors. Raises: ModelError with the differences to the nearest one."""
    inner_keys = strip_backbone_prefix(state)
    mismatches: dict[str, list[str]] = {}
    for name in BACKBONES:
        renamed = {backbone_key(name, inner): (key, state[key]) for inner, key in inner_keys.items()}
        shapes = _backbone_shapes(name)
        mismatches[name] = _mismatches(shapes, renamed)
        if not mismatches[name]:
            exact = {flat_name(key): key for key in shapes}
            return name, {exact[flat_name(ours)]: entry for ours, entry in renamed.items()}
    nearest = min(mismatches, key=lambda name: len(mismatches[name]))
    raise ModelError(
        f"The checkpoint's backbone is none of {', '.join(BACKBONES)}. For {nearest}, the nearest, these keys don't "
        f"fit: {'; '.join(mismatches[nearest])}."
    )


def _backbone_shapes(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {f"backbone.{key}": value.shape for key, value in Backbone(name).state_dict().items()}


def _infer_attention(state: StateDict, given: AttentionKind | None) -> AttentionKind:
    if ATTENTION_TENSOR in state:
        if given not in (None, "mean_max"):
            raise ModelError(f"The checkpoint has attention weights, so its attention is mean_max, not {given}.")
        return "mean_max"
    if given in (None, "mean_max"):
        raise ModelError(
            "The checkpoint has no attention weights, so its attention is `none` or `mean`. The file doesn't tell "
            "which. Set it with --attention."
        )
    return given


def _infer_segmentation(state: StateDict, channels: Iterable[int]) -> dict[str, Any]:
    """Infer widths, skip ratio and offset channels. Raises: ModelError when a tensor is missing or no ratio fits."""
    levels = range(1, LEVELS + 1)
    try:
        branches = [[len(state[name.format(level)]) for name in BRANCH_TENSORS] for level in levels]
        skips = [len(state[SKIP_TENSOR.format(level)]) for level in levels]
        offset_channels = len(state[OFFSET_TENSOR])
    except KeyError as error:
        raise ModelError(f"The checkpoint has a decoder but lacks {error}; expected the enhanced U-Net.") from None
    return {
        "widths": _infer_widths(branches, tuple(channels)),
        "skip_ratio": _infer_skip_ratio(skips, [sum(row) for row in branches]),
        "offset_channels": offset_channels,
    }


def _infer_widths(branches: list[list[int]], channels: tuple[int, ...]) -> tuple[Any, ...]:
    """Return five ratios of the paper for all levels if they give these channels, else five ratios per level."""
    shared = []
    for counts in zip(*branches, strict=True):
        shared += [ratio for ratio in WIDTH_RATIOS if tuple(floor(ratio * c) for c in channels) == counts][:1]
    if len(shared) == len(BRANCHES):
        return tuple(shared)
    return tuple(tuple(count / c for count in row) for c, row in zip(channels, branches, strict=True))


def _infer_skip_ratio(skips: list[int], details: list[int]) -> float:
    for ratio in SKIP_RATIOS:
        if [max(1, floor(ratio * d)) for d in details] == skips:
            return ratio
    raise ModelError(f"No skip ratio of {SKIP_RATIOS} turns {details} channels into the checkpoint's {skips}.")


def _require_all_keys(checkpoint: UpstreamCheckpoint, renamed: Renamed) -> None:
    with torch.device("meta"):
        network = build_network(checkpoint.model, checkpoint.classes, checkpoint.mask_classes)
    expected = {key: value.shape for key, value in network.state_dict().items()}
    if mismatches := _mismatches(expected, renamed):
        raise ModelError(
            f"The checkpoint doesn't fit {checkpoint.model.backbone}; these keys don't: {'; '.join(mismatches)}."
        )


def _mismatches(expected: Mapping[str, torch.Size], renamed: Renamed) -> list[str]:
    """List missing keys, unknown keys, and keys of another shape. timm's flattened names equal the dotted ones."""
    given = {flat_name(ours): (key, tuple(value.shape)) for ours, (key, value) in renamed.items()}
    needed = {flat_name(ours): (ours, tuple(shape)) for ours, shape in expected.items()}
    missing = [f"{ours} is missing" for flat, (ours, _) in needed.items() if flat not in given]
    unknown = [f"{key} is unknown" for flat, (key, _) in given.items() if flat not in needed]
    reshaped = [
        f"{key} is {shape}, not {needed[flat][1]}"
        for flat, (key, shape) in given.items()
        if flat in needed and shape != needed[flat][1]
    ]
    return missing + unknown + reshaped
