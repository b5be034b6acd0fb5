"""Start from what another run has learnt: its parts, as far as they fit."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mnsa.errors import ModelError
from mnsa.model.attention import AttentionKind
from mnsa.model.network import Network
from mnsa.model.released import is_released, read_released
from mnsa.model.weights import read_state_dict
from mnsa.run_folder import load_network

StateDict = Mapping[str, Tensor]

# Parts of a network as its state dict names them; a mask head belongs to its decoder.
PARTS = (("backbone",), ("attention",), ("class_head",), ("enhancer",), ("decoder", "mask_head"))


def read_start(source: Path, attention: AttentionKind) -> StateDict:
    """Weights of a run folder, of a state dict of this project, or of one of the released code, under our names.

    attention: the kind of a released network whose file holds no attention weights.
    Raises: RunError, ModelError when the source can't be read.
    """
    if source.is_dir():
        return load_network(source)[0].state_dict()
    state = read_state_dict(source)
    if not is_released(state):
        return state
    return read_released(state, None if attention == "mean_max" else attention).state


def knows_classes(start: StateDict, classes: int) -> bool:
    """Tell whether the weights hold a class head for that many classes."""
    head = start.get("class_head.classifier.weight")
    return head is not None and len(head) == classes


def knows_masks(start: StateDict) -> bool:
    """Tell whether the weights hold a decoder."""
    return "mask_head.conv.weight" in start


def take_over(network: Network, start: StateDict, source: str) -> str:
    """Fill the network's parts from the weights: each part whole or not at all.

    What is lacking or has other shapes, such as the head for other classes, begins anew. source: names the weights.
    Returns: what was taken and what begins anew, for people to read. Raises: ModelError for another backbone.
    """
    taken, anew = [], []
    for names in PARTS:
        wanted, found = _part(network.state_dict(), names), _part(start, names)
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


def _part(state: StateDict, names: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.split(".", 1)[0] in names}


def _shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}
