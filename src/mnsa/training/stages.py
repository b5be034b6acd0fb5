"""Prepare a network for a stage: initial weights and teacher of other runs, trainable and frozen parts, modes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mnsa.config import StageConfig, TrainConfig
from mnsa.errors import ConfigError, ModelError
from mnsa.model.heads import AttentionKind
from mnsa.model.network import Network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from mnsa.model.upstream import convert_upstream, is_upstream
from mnsa.model.weights import read_state_dict
from mnsa.model_folder import load_network
from mnsa.training.losses import mask_probs

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


def set_trainable_parts(network: Network, stage: StageConfig) -> None:
    """Make exactly the stage's parts trainable. Raises: ConfigError when the network lacks one of them."""
    network.requires_grad_(False)
    for module in _trainable_modules(network, stage):
        module.requires_grad_(True)
    for module in _frozen_shallow_modules(network, stage):
        module.requires_grad_(False)


def set_train_modes(network: Network, stage: StageConfig) -> None:
    """Set trainable modules to training mode and frozen ones to eval mode (no dropout, fixed BatchNorm statistics).

    With `frozen_bn = "train"` the backbone's BatchNorms update their statistics although they are frozen, as in stage 1
    of the paper's code. Call this after every `.train()`, which sets all modules to training mode.
    """
    network.eval()
    for module in _trainable_modules(network, stage):
        module.train()
    for module in _frozen_shallow_modules(network, stage):
        module.eval()
    if stage.frozen_bn == "train":
        for module in network.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.train()


def _trainable_modules(network: Network, stage: StageConfig) -> list[nn.Module]:
    parts = network.parts()
    modules = []
    for name in stage.trainable:
        part = parts.get("backbone" if name == "backbone_deep" else name)
        if part is None:
            raise ConfigError(
                f"stage {stage.name!r} trains {name!r}, which this network lacks. It has {', '.join(parts)}."
            )
        modules.append(part)
    return modules


def _frozen_shallow_modules(network: Network, stage: StageConfig) -> list[nn.Module]:
    """Return the first modules of the backbone if the stage trains only the others."""
    only_deep = "backbone_deep" in stage.trainable and "backbone" not in stage.trainable
    return network.backbone.shallow_modules() if only_deep else []


def _part_state(state: StateDict, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.split(".", 1)[0] in prefixes}


def _shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


class MaskTeacher(Protocol):
    """What softens the mask targets of a network that is trained."""

    def soften(self, targets: Tensor, images: Tensor) -> Tensor:
        """Return targets (B, M, h, w) in 0..1 in place of these, for images (B, 3, H, W)."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network whose mask probabilities soften the targets of another one.

    Where masks have errors that differ from image to image, a network learns what they have in common first; a second
    one that believes it in part repeats fewer of the errors. A fixed teacher, and not the moving average of the student
    itself, because the average has the student's errors. It is no module, so no checkpoint holds its weights.
    weight: share of the teacher in a target, 0..1.
    """

    network: Network
    weight: float

    def soften(self, targets: Tensor, images: Tensor) -> Tensor:
        """Mix targets (B, M, h, w) with the probabilities for images (B, 3, H, W), whose sides are multiples of 32."""
        network = self.network.to(images.device)
        with torch.no_grad():
            logits = network.segment(network.features(images), images).float()
            if logits.shape[-2:] != targets.shape[-2:]:
                logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear")
            return targets.lerp(mask_probs(logits), self.weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: a moving average of weights copies what it averages, and this is constant."""
        return self


def read_teacher(config: TrainConfig, student: Network, mask_classes: Sequence[str]) -> Teacher | None:
    """Read the teacher of `train.distill`; None if there is none.

    Raises: RunError when the folder has no network; ConfigError when the teacher's masks or inputs are of another kind.
    """
    if not config.distill:
        return None
    network, spec = load_network(Path(config.distill))
    if student.decoder is None:
        raise ConfigError(
            "train.distill teaches masks, but no stage trains segmentation. Add the task to a stage, or remove it."
        )
    if spec.mask_classes != tuple(mask_classes):
        theirs, ours = ", ".join(spec.mask_classes) or "none", ", ".join(mask_classes)
        raise ConfigError(
            f"train.distill: the network of {config.distill} has the mask classes {theirs}, but the data set has "
            f"{ours}. Choose a run on this data set."
        )
    if (network.backbone.mean, network.backbone.std) != (student.backbone.mean, student.backbone.std):
        raise ConfigError(
            f"train.distill: the backbone of {config.distill}, {network.backbone.timm_name}, needs other pixel values "
            f"than {student.backbone.timm_name}. Choose a run with the same backbone."
        )
    fuse_batch_norms(network)
    return Teacher(network.requires_grad_(False), config.distill_weight)
