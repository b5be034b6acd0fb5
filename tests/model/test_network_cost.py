"""Costs equal those computed by hand."""

from typing import Any

import pytest
import torch

from mnsa.config import ModelConfig
from mnsa.model.backbone import Backbone
from mnsa.model.enhancer import BranchWidths
from mnsa.model.network import Network, NetworkCost, build_network, network_cost
from narrowing import instance_of

pytestmark = pytest.mark.slow


SMALL = ModelConfig(backbone="test_efficientnet", pretrained="none", widths=(1 / 8,) * 5, decoder_channels=(8,) * 5)
SIZE = (64, 96)


def cost(**changes: Any) -> NetworkCost:
    return network_cost(SMALL.model_copy(update=changes), 3, 1, SIZE)


def pixels(level: int) -> Any:
    return (SIZE[0] >> level) * (SIZE[1] >> level)


def macs_of_modules(network: Network, images: torch.Tensor) -> int:
    """Count multiply-adds of convolutions and linear layers with hooks, from the shapes of their inputs."""
    counted = 0

    def count(module: Any, _: Any, out: Any) -> None:
        nonlocal counted
        counted += out[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(images)
    return counted


def deform_macs(channels: tuple[int, ...], kernel_size: int, widths: list[int], offset_channels: Any = 64) -> int:
    """Count a deformable branch over all levels by its formula, without the offset predictors."""
    taps = kernel_size**2
    per_pixel = [taps * w * (c + 4) for c, w in zip(channels, widths, strict=True)]
    return sum(pixels(level) * macs for level, macs in enumerate(per_pixel, start=1))


def test_multiply_adds_are_the_sum_over_layers_plus_the_formula_of_the_deformable_branches() -> None:
    network = build_network(SMALL, 3, 1).eval()
    channels, widths = network.backbone.channels, BranchWidths.from_ratios(SMALL.widths)
    of_level = [widths.channels(level, c) for level, c in enumerate(channels, start=1)]
    by_hand = macs_of_modules(network, torch.zeros(1, 3, *SIZE))
    for branch, kernel_size in enumerate((3, 5)):
        by_hand += deform_macs(channels, kernel_size, [row[branch] for row in of_level])
    assert cost().macs == by_hand


def test_a_wider_atrous_branch_adds_its_own_convolution_and_inputs_of_the_decoder() -> None:
    channels = Backbone("test_efficientnet").channels
    narrow, wide = (BranchWidths.from_ratios((1 / 8, 1 / 8, ratio, 1 / 8, 1 / 8)) for ratio in (1 / 8, 1 / 4))
    out, bridge_of_level_5 = instance_of(tuple, SMALL.decoder_channels), instance_of(int, SMALL.bridge_channels)
    expected = 0
    for level, c in enumerate(channels, start=1):
        more = widths_difference(wide, narrow, level, c)
        bridge = bridge_of_level_5 if level == 5 else 0
        skip = 1  # channels of the skip bridge, a 1x1 convolution
        expected += pixels(level) * more * (9 * (c + out[level - 1] + bridge) + skip)
    changes = [{"widths": w.ratios, "skip_ratio": 0.0} for w in (wide, narrow)]
    wider, narrower = (cost(**change).macs for change in changes)
    assert wider - narrower == expected


def widths_difference(wide: BranchWidths, narrow: BranchWidths, level: int, channels: int) -> int:
    return sum(wide.channels(level, channels)) - sum(narrow.channels(level, channels))


def test_twice_the_side_has_four_times_the_multiply_adds_except_in_the_classifier() -> None:
    config = SMALL.model_copy(update={"backbone": "resnet18"})
    small, large = (network_cost(config, 3, 1, (side, side)).macs - 3 * 512 for side in (64, 128))
    assert large == 4 * small


@pytest.mark.parametrize(
    ("ratios", "skip_ratio", "parameters"),
    [
        ((1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8), 0.25, 451_995_427),
        ((1 / 16, 1 / 4, 1 / 16, 1 / 8, 1 / 4), 0.0, 445_027_204),
    ],
)
def test_the_paper_networks_have_the_published_number_of_parameters(
    ratios: tuple[float, float, float, float, float], skip_ratio: float, parameters: int
) -> None:
    paper = ModelConfig(preset="paper", widths=ratios, skip_ratio=skip_ratio)
    assert network_cost(paper, 200, 1, (448, 448)).parameters == parameters


def test_pretrained_weights_are_not_loaded() -> None:
    assert cost(pretrained="no/such/file.pth") == cost()
