"""Freeze and unfreeze the parts of a network for a stage, and set their modes."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnsa.config import StageConfig
from mnsa.errors import ConfigError
from mnsa.model.network import Network


def set_trainable_parts(network: Network, stage: StageConfig) -> None:
    """Let exactly the stage's parts learn. Raises: ConfigError when the network lacks one of them."""
    network.requires_grad_(False)
    for module in _trainable_modules(network, stage):
        module.requires_grad_(True)
    for module in _frozen_shallow_modules(network, stage):
        module.requires_grad_(False)


def set_train_modes(network: Network, stage: StageConfig) -> None:
    """Training mode for what learns; what is frozen stands in eval mode: no dropout, no moving BatchNorm statistics.

    With `frozen_bn = "train"` the backbone's BatchNorms keep learning their statistics even where they are
    frozen, as in stage 1 of the paper's code. Call this after every `.train()`, which would undo it.
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
        found = parts.get("backbone" if name == "backbone_deep" else name)
        if found is None:
            have = ", ".join(parts)
            raise ConfigError(f"stage {stage.name!r} trains {name!r}, which this network lacks; it has {have}.")
        modules.append(found)
    return modules


def _frozen_shallow_modules(network: Network, stage: StageConfig) -> list[nn.Module]:
    """The backbone's first modules, where the stage leaves them frozen."""
    only_deep = "backbone_deep" in stage.trainable and "backbone" not in stage.trainable
    return network.backbone.shallow_modules() if only_deep else []
