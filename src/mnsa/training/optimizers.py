"""torch's fused optimisers, which read weights in the order in which they lie.

On a CPU a fused kernel first copies every tensor that is not contiguous, and afterwards copies it back. Kernels in
channels-last memory aren't, but their views with the channels last are, and an update acts on each number alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class _InMemoryOrder(Optimizer):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Compute gradients by `closure`, if there is one, and update the weights. Returns: what it returned."""
        with torch.enable_grad():
            result = None if closure is None else closure()
        with _channels_last(self):
            super().step()
        return result


class InOrderSGD(_InMemoryOrder, SGD):
    """`torch.optim.SGD`, for `fused=True`."""


class InOrderAdamW(_InMemoryOrder, AdamW):
    """`torch.optim.AdamW`, for `fused=True`."""


@contextmanager
def _channels_last(optimizer: Optimizer) -> Iterator[None]:
    """Show the optimiser weights in channels-last memory, and all that belongs to them, with the channels last."""
    weights = [p for group in optimizer.param_groups for p in group["params"] if _lies_channels_last(p)]
    _permute(optimizer, weights, CHANNELS_LAST)
    try:
        yield
    finally:
        _permute(optimizer, weights, CHANNELS_FIRST)


def _lies_channels_last(weight: nn.Parameter) -> bool:
    in_order = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return in_order and not weight.is_contiguous()


def _permute(optimizer: Optimizer, weights: list[nn.Parameter], order: tuple[int, ...]) -> None:
    """Permute weights (O, C, k, k), their gradients and their moments, and leave all of them where they lie."""
    for weight in weights:
        for tensor in (weight, weight.grad, *optimizer.state[weight].values()):
            if isinstance(tensor, Tensor) and tensor.dim() == weight.dim():  # AdamW also counts its steps
                tensor.data = tensor.data.permute(order)
