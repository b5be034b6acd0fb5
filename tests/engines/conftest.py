"""Fixtures of the engine tests: a small network with random statistics and without zero weights."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mnsa.config import Config
from mnsa.model.network import Network, build_network
from narrowing import some

DECODER_ONLY = {"tasks": ("segmentation",), "trainable": ("decoder",)}  # a stage that every decoder allows


@pytest.fixture(scope="session")
def make_network(make_config: Callable[..., Config]) -> Callable[..., Network]:
    """Build an untrained network in eval mode from `classes`, `mask_classes`, and keys of the config's [model]."""

    def make(classes: int = 3, mask_classes: int = 2, **model: object) -> Network:
        torch.manual_seed(4)
        network = build_network(make_config(DECODER_ONLY, model=model).model, classes, mask_classes).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(some(module.running_mean), std=0.1)
                nn.init.uniform_(some(module.running_var), 0.5, 1.5)
        for parameter in network.parameters():
            if not parameter.any():  # with zero offsets, wrong sampling would not show
                nn.init.normal_(parameter, std=0.1)
        return network

    return make
