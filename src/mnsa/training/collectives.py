"""What several processes compute together: sums for the losses, and the statistics of BatchNorm.

With the same rows in the same steps, N processes with batches of B train like one process with batches of N * B, apart
from dropout, whose random numbers each process draws for itself.
B batch; C channels; H, W size of the map.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from lightning.pytorch.plugins import LayerSync
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from mnsa.data.dataset import rank_and_world_size


class _Alone:
    """Whether this process computes without the others. There is one, because a process is in one group."""

    active = False


@contextmanager
def alone() -> Iterator[None]:
    """Let this process compute without the others in a block: sums and statistics are those of its own batch."""
    _Alone.active = True
    try:
        yield
    finally:
        _Alone.active = False


def _own_place() -> tuple[int, int]:
    return (0, 1) if _Alone.active else rank_and_world_size()


def sum_over_processes(*values: Tensor) -> tuple[Tensor, ...]:
    """Add each tensor over all processes, in one message. Differentiable.

    A loss that divides such sums is the same number in each process, that of the whole batch. The gradients, which DDP
    averages, are those of the whole batch too, because the backward pass adds up the gradients of all processes.
    """
    if _own_place()[1] == 1:
        return values
    joined: Tensor = _AllReduce.apply(torch.cat([value.float().flatten() for value in values]))
    parts = joined.split([value.numel() for value in values])
    return tuple(part.view(value.shape) for part, value in zip(parts, values, strict=True))


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduce.apply(gradient.contiguous())  # type: ignore[no-any-return]


class BatchNormSync(LayerSync):
    """Lets the BatchNorms of a network normalize by the whole batch, on any device.

    Not torch's SyncBatchNorm: it needs a GPU, and would drop the activation that is part of timm's BatchNorms.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        return _change_classes(model, _SYNCHRONIZED)

    def revert(self, model: nn.Module) -> nn.Module:
        return _change_classes(model, {new: old for old, new in _SYNCHRONIZED.items()})


class _SynchronizedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, features: Tensor) -> Tensor:
        return _batch_norm(self, features) if self.training else super().forward(features)


class _SynchronizedBatchNormAct2d(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        return self.act(self.drop(_batch_norm(self, x)))  # type: ignore[no-any-return]


_SYNCHRONIZED: Mapping[type[nn.Module], type[nn.Module]] = MappingProxyType(
    {nn.BatchNorm2d: _SynchronizedBatchNorm2d, BatchNormAct2d: _SynchronizedBatchNormAct2d}
)


def _change_classes(model: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> nn.Module:
    """Change the classes of modules in place, so that weights, names and references stay."""
    for module in model.modules():
        if (changed := classes.get(type(module))) is not None:
            module.__class__ = changed
    return model


def _batch_norm(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    """Normalize features (B, C, H, W) by mean and variance over all processes, and update the running statistics.

    All processes have batches of the same size. Their means and variances are gathered, and not sums of squares, which
    would lose digits.
    """
    (rank, world_size), wide = _own_place(), features.float()
    var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)  # (C,)
    own = F.one_hot(torch.tensor(rank, device=features.device), world_size)[:, None, None]
    (gathered,) = sum_over_processes(own * torch.stack([mean, var]))  # (world size, 2, C)
    means, variances = gathered.unbind(1)
    mean = means.mean(0)
    var = (variances + (means - mean).square()).mean(0)
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            count = world_size * features.numel() / features.shape[1]
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
            momentum = norm.momentum if norm.momentum is not None else 1 / int(norm.num_batches_tracked or 1)
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(var * count / max(1, count - 1), momentum)
    scale = (var + norm.eps).rsqrt() * norm.weight
    shift = norm.bias - mean * scale
    return (wide * scale[:, None, None] + shift[:, None, None]).to(features.dtype)
