"""Recompute feature maps in the backward pass instead of keeping them in memory.

BatchNorm keeps its input, ReLU its output, and the next convolution keeps the same output again. One of them is enough:
the others follow from it. `batch_norm_relu` keeps its input, and the operation that reads its result inside of
`without_saving` keeps nothing. Idea: Rota Bulo et al. 2018, In-Place Activated BatchNorm, section 3.1.

B batch; C channels; H, W size of the map.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from mnsa.model.ops.upsample_conv import resize

Recipe = Callable[[], Tensor]


def batch_norm_relu(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """relu(norm(features)), (B, C, H, W) both; the norm's running statistics move as they do in its own forward."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    statistics = norm.running_mean, norm.running_var, norm.momentum, norm.eps
    activated: Tensor = _BatchNormReLU.apply(features, norm.weight, norm.bias, *statistics)
    return activated if activated.grad_fn is None else _attach_recipe(activated, partial(_recompute, activated.grad_fn))


def resize_recomputed(x: Tensor, size: Sequence[int]) -> Tensor:
    """`resize(x, size)`, to be made anew from x, or from what x is made of."""
    source = _get_recipe(x) or x.detach
    return _attach_recipe(resize(x, size), lambda: resize(source(), size))


def can_recompute(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether `normed_relu` can stand for this norm and a ReLU: a plain one, learning, outside of compilers."""
    return type(norm) is nn.BatchNorm2d and norm.training and _is_training()


def without_saving(maps: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Make a context in which operations keep recipes instead of maps, of those that have one."""
    recipes = {_memory_key(m): recipe for m in maps if (recipe := _get_recipe(m))}
    if not recipes:
        return nullcontext()
    return saved_tensors_hooks(
        lambda kept: recipes.get(_memory_key(kept), kept), lambda kept: kept if isinstance(kept, Tensor) else kept()
    )


def _is_training() -> bool:
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _attach_recipe(features: Tensor, recipe: Recipe) -> Tensor:
    if _is_training():
        features.recipe = recipe  # type: ignore[attr-defined]
    return features


def _get_recipe(features: Tensor) -> Recipe | None:
    return getattr(features, "recipe", None) if _is_training() else None


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
        normed, mean, inverse = torch.native_batch_norm(
            features, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(features, weight, bias, mean, inverse)
        ctx.eps, ctx.recomputed = eps, None
        return normed.relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, _, mean, inverse = ctx.saved_tensors
        through_relu = torch.ops.aten.threshold_backward(gradient, _recompute(ctx), 0)
        ctx.recomputed = None
        gradients = torch.ops.aten.native_batch_norm_backward(
            through_relu, features, weight, None, None, mean, inverse, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return (*gradients, None, None, None, None)


def _recompute(made_by: Any) -> Tensor:
    """What this node of the graph gave. It stays until the node's own turn comes, which is soon."""
    if made_by.recomputed is None:
        features, weight, bias, mean, inverse = made_by.saved_tensors
        normed = F.batch_norm(features, mean, inverse.pow(-2), weight, bias, eps=0)
        made_by.recomputed = normed.relu_()
    recomputed: Tensor = made_by.recomputed
    return recomputed


def _memory_key(features: Tensor) -> tuple[object, ...]:
    """Where features lie, and how: the same for a tensor and for what an operation is about to keep of it."""
    return features.data_ptr(), features.dtype, features.shape, features.stride()
