"""Convert checkpoints of the upstream MNSA and MGANet code to the names of this project.

The shapes in the state dict give the backbone, the classes, the widths and the skip ratio. C_l channels of level l.
Source: method section 1; the upstream names are facts of those files.
"""

import re
from collections.abc import Iterable, Mapping
from math import floor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mnsa.config import ModelConfig
from mnsa.errors import ModelError
from mnsa.model.backbone import Backbone, flat_name
from mnsa.model.enhancer import BRANCHES, LEVELS
from mnsa.model.heads import AttentionKind
from mnsa.model.network import build_network

StateDict = Mapping[str, Tensor]


BACKBONES = ("densenet161", "densenet121", "resnet18", "resnet34", "resnet50", "vgg19")

WIDTH_RATIOS = (1 / 16, 1 / 8, 1 / 4)

SKIP_RATIOS = (0.0, 0.125, 0.25, 0.5)

# The children of torchvision's ResNet where they stand in an nn.Sequential, as numbers.
_RESNET_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}

# Upstream names -> ours; a level's number is one lower here, so {0} is replaced by it.
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

# The upstream tensor that shows the channels of each branch, in the order of BRANCHES.
_BRANCH_TENSORS = (
    "deconv_layers_3.{}.deform_conv.weight",
    "deconv_layers_5.{}.deform_conv.weight",
    "atrous_conv_layers_2.{}.weight",
    "atrous_conv_layers_3.{}.weight",
    "max_min_expan_layers.{}.weight",
)


class UpstreamCheckpoint(NamedTuple):
    """A upstream network in this project's terms: what `build_network` needs, and the weights to load."""

    model: ModelConfig
    classes: int
    mask_classes: int
    state: dict[str, Tensor]


def is_upstream(state: StateDict) -> bool:
    """Tell the upstream code's names from this project's, which begin with the names of its parts."""
    return any(re.match(r"(module\.)?(features|Encoders)\.", key) for key in state)


def convert_upstream(state: StateDict, attention: AttentionKind | None = None) -> UpstreamCheckpoint:
    """Translate a state dict of the upstream MNSA code (with or without its decoder) or of MGANet.

    attention: needed only where the file holds no attention weights, which `none` and `mean` have in common.
    Raises: ModelError naming every key that doesn't fit, or what the shapes leave open.
    """
    state = _drop_duplicates({key.removeprefix("module."): value for key, value in state.items()})
    if "classifier.weight" not in state:
        raise ModelError("The checkpoint has no classifier.weight, so it is none of the upstream MNSA or MGANet code.")
    named = {_rename_key(key): (key, value) for key, value in state.items() if not key.startswith("features.")}
    name, backbone = _find_backbone({key: value for key, value in state.items() if key.startswith("features.")})
    config: dict[str, Any] = {"backbone": name, "pretrained": "none", "attention": _infer_attention(state, attention)}
    segments = any(key.startswith("decoder_layers.") for key in state)
    if segments:
        config |= _infer_segmentation(state, Backbone(name).channels)
    mask_classes = len(state["decoder_layers.1.layers.2.3.weight"]) if segments else 0
    found = UpstreamCheckpoint(ModelConfig(preset="paper", **config), len(state["classifier.weight"]), mask_classes, {})
    _validate_keys(found, named | backbone)
    return found._replace(state={ours: value for ours, (_, value) in (named | backbone).items()})


def _drop_duplicates(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the tensors that stand twice. Raises: ModelError when two copies differ, for either may be the right one."""
    kept, strays = dict(state), []
    for key, value in state.items():
        originals = _duplicated_keys(key)
        original = next((state[name] for name in originals if name in state), None)
        if not originals:
            continue
        if original is None or original.shape != value.shape or not torch.equal(original, value):
            strays.append(key)
        del kept[key]
    if strays:
        raise ModelError(
            f"These tensors should equal their originals in the backbone or classifier: {_join_names(strays)}."
        )
    return kept


def _duplicated_keys(key: str) -> tuple[str, ...]:
    """Names that the tensor which `key` repeats may have; none for a tensor that stands for itself."""
    if match := re.match(r"Encoders\.\d\.(.+)", key):
        return f"features.features.{match[1]}", f"features.{match[1]}"
    if match := re.match(r"features\.(?:classifier|fc)\.(weight|bias)$", key):
        return (f"classifier.{match[1]}",)
    return ()


def _rename_key(key: str) -> str:
    for pattern, ours in _RENAMINGS:
        if match := re.match(pattern, key):
            kernel, level = match.groups() or ("", "1")
            return ours.format(int(level) - 1, kernel) + key[match.end() :]
    return key


def _find_backbone(state: StateDict) -> tuple[str, dict[str, tuple[str, Tensor]]]:
    """Find the one backbone whose tensors these are. Raises: ModelError naming what the nearest one misses."""
    prefix = "features.features." if all(key.startswith("features.features.") for key in state) else "features."
    tensors = {key.removeprefix(prefix): (key, value) for key, value in state.items()}
    mismatches: dict[str, list[str]] = {}
    for name in BACKBONES:
        ours = {_backbone_key(name, key): named for key, named in tensors.items()}
        mismatches[name] = _mismatches(_backbone_shapes(name), ours)
        if not mismatches[name]:
            exact = {flat_name(key): key for key in _backbone_shapes(name)}
            return name, {exact[flat_name(key)]: named for key, named in ours.items()}
    nearest = min(mismatches, key=lambda name: len(mismatches[name]))
    raise ModelError(
        f"The checkpoint's backbone is none of {', '.join(BACKBONES)}. For {nearest}, the nearest, these keys don't "
        f"fit: {_join_names(mismatches[nearest])}."
    )


def _backbone_key(backbone: str, key: str) -> str:
    """Our name of the backbone's tensor that torchvision, or a numbered Sequential, calls `key`."""
    if not backbone.startswith("resnet"):
        return f"backbone.net.features.{key}"
    first, _, rest = key.partition(".")
    return f"backbone.net.{_RESNET_CHILDREN.get(first, first)}.{rest}"


def _backbone_shapes(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {f"backbone.{key}": value.shape for key, value in Backbone(name).state_dict().items()}


def _infer_attention(state: StateDict, given: AttentionKind | None) -> AttentionKind:
    if "attention.weight" in state:
        if given not in (None, "mean_max"):
            raise ModelError(f"The checkpoint holds attention weights, so its attention is mean_max, not {given}.")
        return "mean_max"
    if given in (None, "mean_max"):
        raise ModelError(
            "The checkpoint holds no attention weights, so its attention is `none` or `mean`, and only you can know "
            "which. Say so with --attention."
        )
    return given


def _infer_segmentation(state: StateDict, channels: Iterable[int]) -> dict[str, Any]:
    """Widths, skip ratio and offset channels from the shapes. Raises: ModelError when no skip ratio gives them."""
    try:
        branches = [[len(state[name.format(level)]) for name in _BRANCH_TENSORS] for level in range(1, LEVELS + 1)]
        skips = [len(state[f"tranformers.{level}.weight"]) for level in range(1, LEVELS + 1)]
        offset_channels = len(state["deconv_layers_3.1.offset_generator.0.weight"])
    except KeyError as error:
        raise ModelError(f"The checkpoint has a decoder but lacks {error}; expected the enhanced U-Net.") from None
    return {
        "widths": _infer_widths(branches, tuple(channels)),
        "skip_ratio": _infer_skip_ratio(skips, [sum(row) for row in branches]),
        "offset_channels": offset_channels,
    }


def _infer_widths(branches: list[list[int]], channels: tuple[int, ...]) -> tuple[Any, ...]:
    """Five ratios of the paper's three where they give these channels, else each level's own."""
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


def _validate_keys(found: UpstreamCheckpoint, named: Mapping[str, tuple[str, Tensor]]) -> None:
    with torch.device("meta"):
        network = build_network(found.model, found.classes, found.mask_classes)
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    if mismatches := _mismatches(wanted, named):
        raise ModelError(
            f"The checkpoint doesn't fit {found.model.backbone}; these keys don't: {_join_names(mismatches)}."
        )


def _mismatches(wanted: Mapping[str, torch.Size], given: Mapping[str, tuple[str, Tensor]]) -> list[str]:
    """Name what is missing, of another shape, or too much; timm's flattened names count as the dotted ones."""
    have = {flat_name(ours): (key, tuple(value.shape)) for ours, (key, value) in given.items()}
    need = {flat_name(ours): (ours, tuple(shape)) for ours, shape in wanted.items()}
    missing = [f"{ours} is missing" for flat, (ours, _) in need.items() if flat not in have]
    surplus = [f"{key} is unknown" for flat, (key, _) in have.items() if flat not in need]
    other = [
        f"{key} is {shape}, not {need[flat][1]}"
        for flat, (key, shape) in have.items()
        if flat in need and shape != need[flat][1]
    ]
    return missing + surplus + other


def _join_names(names: list[str]) -> str:
    return "; ".join(names)
