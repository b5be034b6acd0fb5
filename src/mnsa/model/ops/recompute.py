"""Recompute feature maps in the backward pass instead of saving them in the forward pass.

BatchNorm saves its input, ReLU its output, and the next convolution saves the same output again. One of them is enough.
`batch_norm_relu` saves its input alone, and an operation that reads its result inside `without_saving` saves nothing.
Idea: Rota Bulo et al. 2018, In-Place Activated BatchNorm, section 3.1.

The autograd node that made a map knows how to make it again: its attribute `recompute` is a function of the node. So
nothing is attached to tensors. A map from any other operation is saved as usual.

B batch; C channels; H, W size of the map.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

_enabled = ContextVar("recompute", default=True)


@contextmanager
def recomputing(enabled: bool) -> Iterator[None]:
    """Record operations inside the context with or without recomputation: less memory, or less time."""
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def batch_norm_relu(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Compute relu(norm(features)), (B, C, H, W) both, and update the norm's running statistics as its forward does."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    statistics = norm.running_mean, norm.running_var, norm.momentum, norm.eps
    activated: Tensor = _BatchNormReLU.apply(features, norm.weight, norm.bias, *statistics)
    return activated


def batch_norm_relu_reference(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """`batch_norm_relu` in plain PyTorch."""
    return norm(features).relu()  # type: ignore[no-any-return]


def can_recompute(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Check whether `batch_norm_relu` can replace this norm and a ReLU: a plain BatchNorm in training, not compiled."""
    return type(norm) is nn.BatchNorm2d and norm.training and recomputes()


def without_saving(maps: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Make a context in which operations save none of these maps that can be recomputed."""
    recipes = {_memory_key(m): recipe for m in maps if (recipe := _recipe(m)) is not None}
    if not recipes:
        return nullcontext()
    return saved_tensors_hooks(
        lambda saved: recipes.get(_memory_key(saved), saved),
        lambda saved: saved if isinstance(saved, Tensor) else saved(),
    )


class _BatchNormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        normed, mean, inverse_std = torch.native_batch_norm(
            features, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(features, weight, bias, mean, inverse_std)
        ctx.eps, ctx.recompute, ctx.recomputed = eps, _recompute_batch_norm_relu, None
        return normed.relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, _, mean, inverse_std = ctx.saved_tensors
        through_relu = torch.ops.aten.threshold_backward(gradient, _recompute_batch_norm_relu(ctx), 0)
        ctx.recomputed = None
        gradients = torch.ops.aten.native_batch_norm_backward(
            through_relu, features, weight, None, None, mean, inverse_std, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return (*gradients, None, None, None, None)


def _recompute_batch_norm_relu(node: Any) -> Tensor:
    """Recompute the output of this node once. It is cached until the node's own backward, which follows soon."""
    if node.recomputed is None:
        features, weight, bias, mean, inverse_std = node.saved_tensors
        normed = F.batch_norm(features, mean, inverse_std.pow(-2), weight, bias, eps=0)
        node.recomputed = normed.relu_()
    recomputed: Tensor = node.recomputed
    return recomputed


def _recipe(features: Tensor) -> Callable[[], Tensor] | None:
    """How to recompute a map; None for a map that has to be saved."""
    node = features.grad_fn if recomputes() else None
    recompute = getattr(node, "recompute", None)
    return None if recompute is None else partial(recompute, node)


def is_recorded() -> bool:
    """Check whether autograd records operations, outside compilers."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def recomputes() -> bool:
    """Check whether autograd records operations, outside compilers, and maps may be recomputed (`recomputing`)."""
    return is_recorded() and _enabled.get()


def _memory_key(features: Tensor) -> tuple[object, ...]:
    """Address and layout of a map: the same for a tensor and for what an operation saves of it."""
    return features.data_ptr(), features.dtype, features.shape, features.stride()
