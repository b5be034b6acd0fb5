"""Initialize a network with the weights of another run: every part that fits."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mnsa.errors import ModelError
from mnsa.model.heads import AttentionKind
from mnsa.model.network import Network
from mnsa.model.upstream import convert_upstream, is_upstream
from mnsa.model.weights import read_state_dict
from mnsa.model_folder import load_network

# The parts of a network, as the first words of state dict keys. A mask head belongs to its decoder.
PART_PREFIXES = (("backbone",), ("attention",), ("class_head",), ("enhancer",), ("decoder", "mask_head"))

StateDict = Mapping[str, Tensor]


def read_init_weights(source: Path, attention: AttentionKind) -> StateDict:
    """Read the weights of a run folder, or of a state dict of this project or of the upstream code, under our names.

    attention: the kind of attention of an upstream network whose file holds no attention weights.
    Raises: RunError, ModelError when the source can't be read.
    """
    if source.is_dir():
        return load_network(source)[0].state_dict()
    state = read_state_dict(source)
    if not is_upstream(state):
        return state
    return convert_upstream(state, None if attention == "mean_max" else attention).state


def has_class_head(weights: StateDict, classes: int) -> bool:
    """Check whether the weights contain a class head for this number of classes."""
    head = weights.get("class_head.classifier.weight")
    return head is not None and len(head) == classes


def has_mask_head(weights: StateDict) -> bool:
    """Check whether the weights contain a mask head, and so a decoder."""
    return "mask_head.conv.weight" in weights


def load_matching_parts(network: Network, weights: StateDict, source: str) -> str:
    """Load the weights of every part that they fit completely.

    A part that is missing or has other shapes, such as a head for other classes, keeps its random weights. source: name
    of the weights in messages. Returns: a message that names the loaded and the new parts.
    Raises: ModelError when the weights are those of another backbone.
    """
    loaded, new = [], []
    for prefixes in PART_PREFIXES:
        own, given = _part_state(network.state_dict(), prefixes), _part_state(weights, prefixes)
        if not own:
            continue
        if _shapes(own) == _shapes(given):
            network.load_state_dict(given, strict=False)  # every tensor of this part, none of another
            loaded.append(prefixes[0])
        else:
            new.append(prefixes[0])
    if "backbone" in new:
        raise ModelError(
            f"{source} has no weights of the backbone {network.backbone.timm_name}. "
            "Set model.backbone to the one it has."
        )
    return f"Loaded from {source}: {', '.join(loaded)}" + (f"; new: {', '.join(new)}" if new else "")


def _part_state(state: StateDict, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.split(".", 1)[0] in prefixes}


def _shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}
