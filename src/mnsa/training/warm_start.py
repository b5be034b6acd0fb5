"""Initialize a network from the weights of another run: every part that fits."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mnsa.errors import ModelError
from mnsa.model.heads import AttentionKind
from mnsa.model.network import Network
from mnsa.model.upstream import convert_upstream, is_upstream
from mnsa.model.weights import read_state_dict
from mnsa.model_folder import load_network

StateDict = Mapping[str, Tensor]


# Parts of a network as its state dict names them; a mask head belongs to its decoder.
PART_PREFIXES = (("backbone",), ("attention",), ("class_head",), ("enhancer",), ("decoder", "mask_head"))


def read_init_weights(source: Path, attention: AttentionKind) -> StateDict:
    """Weights of a run folder, of a state dict of this project, or of one of the upstream code, under our names.

    attention: the kind of a upstream network whose file holds no attention weights.
    Raises: RunError, ModelError when the source can't be read.
    """
    if source.is_dir():
        return load_network(source)[0].state_dict()
    state = read_state_dict(source)
    if not is_upstream(state):
        return state
    return convert_upstream(state, None if attention == "mean_max" else attention).state


def has_class_head(start: StateDict, classes: int) -> bool:
    """Tell whether the weights hold a class head for that many classes."""
    head = start.get("class_head.classifier.weight")
    return head is not None and len(head) == classes


def has_mask_head(start: StateDict) -> bool:
    """Tell whether the weights hold a decoder."""
    return "mask_head.conv.weight" in start


def load_matching_parts(network: Network, start: StateDict, source: str) -> str:
    """Fill the network's parts from the weights: each part whole or not at all.

    What is lacking or has other shapes, such as the head for other classes, begins anew. source: names the weights.
    Returns: what was taken and what begins anew, for people to read. Raises: ModelError for another backbone.
    """
    taken, anew = [], []
    for names in PART_PREFIXES:
        wanted, found = _part_state(network.state_dict(), names), _part_state(start, names)
        if not wanted:
            continue
        if _shapes(wanted) == _shapes(found):
            network.load_state_dict(found, strict=False)  # every tensor of this part, none of another
            taken.append(names[0])
        else:
            anew.append(names[0])
    if "backbone" in anew:
        raise ModelError(f"{source} holds no weights of {network.backbone.timm_name}. Set model.backbone to its own.")
    return f"Started from {source}: {', '.join(taken)}" + (f"; new: {', '.join(anew)}" if anew else "")


def _part_state(state: StateDict, names: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.split(".", 1)[0] in names}


def _shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}
