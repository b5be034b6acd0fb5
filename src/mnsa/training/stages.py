"""Freeze and unfreeze the parts of a network for a stage, and set their training modes."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnsa.config import StageConfig
from mnsa.errors import ConfigError
from mnsa.model.network import Network


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
