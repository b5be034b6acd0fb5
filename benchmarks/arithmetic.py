"""The multiply-adds of a network and the rate of matrix products of the machine: speed relative to the maximum.

Claim: none; imported by other benchmarks. Multiply-adds are counted on the shapes of mnsa's network.
"""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mnsa.config import Config
from mnsa.model.network import build_network
from stage_steps import StageSteps, random_batch

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}


def step_macs(config: Config, stage: str, *, classes: int, mask_classes: int, size: tuple[int, int]) -> int:
    """Count the multiply-adds of convolutions and matrix products in a training step, per image; no weight is made."""
    meta = torch.device("meta")
    with meta:
        network = build_network(config.model, classes, mask_classes)
    steps = StageSteps(network, config, stage, mask_classes, meta)
    batch = random_batch(2, size, classes=classes, mask_classes=mask_classes, device=meta)
    counter = FlopCounterMode(display=False)
    with counter:
        steps.compute_gradients(batch)
    return counter.get_total_flops() // 2 // len(batch.images)


def matrix_products(device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """Make a candidate per number format: a square matrix product of `matrix_macs` multiply-adds."""
    side = MATRIX_SIDE[device.type]

    def product(dtype: torch.dtype) -> Callable[[], Tensor]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return lambda: torch.mm(a, b)

    return {f"matrices, {name}": product(getattr(torch, name)) for name in ("float32", "bfloat16")}


def matrix_macs(device: torch.device) -> int:
    """Count the multiply-adds of one matrix product."""
    return MATRIX_SIDE[device.type] ** 3


def share_of_rate(macs: int, seconds: Sequence[float], matrix_macs: int, matrix_seconds: Sequence[float]) -> float:
    """Compare two rates, turn by turn: macs / seconds over that of the matrix product; the median of all turns."""
    turns = zip(seconds, matrix_seconds, strict=True)
    return median((macs / mine) / (matrix_macs / matrix) for mine, matrix in turns)
