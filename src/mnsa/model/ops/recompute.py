"""Maps that a training step makes anew in its backward pass, instead of keeping them for it.

BatchNorm keeps what it is given, ReLU what it gives, and the convolution after them the same map again. One of the two
is enough: the other is a scale, a shift and a maximum away. So `normed_relu` keeps the first, and what reads its result
inside of `not_kept` keeps nothing. Idea: Rota Bulo et al. 2018, In-Place Activated BatchNorm, section 3.1.

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

from mnsa.model.upsampled import resize

Recipe = Callable[[], Tensor]


def normed_relu(features: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """relu(norm(features)), (B, C, H, W) both; the norm's running statistics move as they do in its own forward."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    statistics = norm.running_mean, norm.running_var, norm.momentum, norm.eps
    activated: Tensor = _NormedReLU.apply(features, norm.weight, norm.bias, *statistics)
    return activated if activated.grad_fn is None else _with_recipe(activated, partial(_remake, activated.grad_fn))


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """`resize(x, size)`, to be made anew from x, or from what x is made of."""
    source = _recipe_of(x) or x.detach
    return _with_recipe(resize(x, size), lambda: resize(source(), size))


def can_remake(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether `normed_relu` can stand for this norm and a ReLU: a plain one, learning, outside of compilers."""
    return type(norm) is nn.BatchNorm2d and norm.training and _learning()


def not_kept(maps: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Make a context in which operations keep recipes instead of maps, of those that have one."""
    recipes = {_place(m): recipe for m in maps if (recipe := _recipe_of(m))}
    if not recipes:
        return nullcontext()
    return saved_tensors_hooks(
        lambda kept: recipes.get(_place(kept), kept), lambda kept: kept if isinstance(kept, Tensor) else kept()
    )


def _learning() -> bool:
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _with_recipe(features: Tensor, recipe: Recipe) -> Tensor:
    if _learning():
        features.recipe = recipe  # type: ignore[attr-defined]
    return features


def _recipe_of(features: Tensor) -> Recipe | None:
    return getattr(features, "recipe", None) if _learning() else None


class _NormedReLU(torch.autograd.Function):
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
        ctx.eps, ctx.remade = eps, None
        return normed.relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, _, mean, inverse = ctx.saved_tensors
        through_relu = torch.ops.aten.threshold_backward(gradient, _remake(ctx), 0)
        ctx.remade = None
        gradients = torch.ops.aten.native_batch_norm_backward(
            through_relu, features, weight, None, None, mean, inverse, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return (*gradients, None, None, None, None)


def _remake(made_by: Any) -> Tensor:
    """What this node of the graph gave. It stays until the node's own turn comes, which is soon."""
    if made_by.remade is None:
        features, weight, bias, mean, inverse = made_by.saved_tensors
        normed = F.batch_norm(features, mean, inverse.pow(-2), weight, bias, eps=0)
        made_by.remade = normed.relu_()
    remade: Tensor = made_by.remade
    return remade


def _place(features: Tensor) -> tuple[object, ...]:
    """Where features lie, and how: the same for a tensor and for what an operation is about to keep of it."""
    return features.data_ptr(), features.dtype, features.shape, features.stride()
