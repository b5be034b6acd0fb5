"""The cost of a network: its parameters and multiply-adds, computed from shapes alone.

B batch; O channels; T taps; H, W size of a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mnsa.config import ModelConfig
from mnsa.model.network import build_network

BILINEAR_CORNERS = 4  # pixels that one bilinear sample mixes


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """parameters: number of weights. macs: multiply-adds for one image in eval mode."""

    parameters: int
    macs: int


@cache  # a second or so for a large network
def network_cost(config: ModelConfig, classes: int, mask_classes: int, size: tuple[int, int]) -> NetworkCost:
    """Compute the cost for one image of `size` (height, width). No weights are allocated.

    Counted are convolutions, matrix products, and four multiply-adds per bilinear sample; as usual, normalization,
    activations, pooling and resizing are not. Raises: ModelError when the config can't be built.
    """
    blank = config.model_copy(update={"pretrained": "none"})
    with torch.device("meta"):
        network = build_network(blank, classes, mask_classes).eval()
        image = torch.empty(1, 3, *size)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.grid_sampler_2d: _sampling_flops})
    with torch.no_grad(), counter:
        network(image)
    flops = counter.get_total_flops()  # two per multiply-add
    return NetworkCost(sum(p.numel() for p in network.parameters()), flops // 2)


def _sampling_flops(values: Sequence[int], grid: Sequence[int], *_: Any, **__: Any) -> int:
    """Count the operations of sampling values (B*T, O, H, W) at grid (B*T, H, W, 2)."""
    samples = values[0] * values[1] * grid[1] * grid[2]
    return 2 * BILINEAR_CORNERS * samples
