"""The soft skeleton of probability maps, with gradients, in elementwise operations of whole maps.

Source: S. Shit et al., "clDice: a novel topology-preserving loss function for tubular structure segmentation", CVPR
2021, algorithm 1. max_pool2d doesn't vectorize for maps of one channel on a CPU, and keeps an index of 8 bytes per
pixel. Here minima and maxima of three pixels are two minima and maxima of pairs, and the backward pass
compares pairs again: 0.4 times the time of max_pool2d, on a CPU and with 8 maps of 256 x 256 px.

B batch; C maps of an image; H, W size, at least 2 px.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

Extremum = Callable[..., Tensor]  # of two tensors, with `out`
ROWS, COLUMNS = -2, -1


def soft_skeleton(probs: Tensor, iterations: int) -> Tensor:
    """Compute the soft skeleton of probs (B, C, H, W) in 0..1: the same shape, in 0..1.

    iterations: erosions; lines up to 2 * iterations + 1 px wide become their centerlines. What is outside of the map
    neither erodes nor dilates. The gradient of a tie goes to one of the equal pixels.
    """
    skeleton: Tensor = _SoftSkeleton.apply(probs, iterations)
    return skeleton


def cross(extremum: Extremum, x: Tensor) -> Tensor:
    """Take torch.minimum or torch.maximum of every pixel of x (..., H, W) and its four neighbors. Without gradients."""
    return extremum(_line(extremum, x, COLUMNS), _line(extremum, x, ROWS))


def box(extremum: Extremum, x: Tensor) -> Tensor:
    """Take torch.minimum or torch.maximum of every pixel of x (..., H, W) and its 3 x 3 px. Without gradients."""
    return _line(extremum, _line(extremum, x, COLUMNS), ROWS)


def soft_skeleton_reference(probs: Tensor, iterations: int) -> Tensor:
    """`soft_skeleton` in plain PyTorch, as in the code of the paper."""
    skeleton = F.relu(probs - _open_reference(probs))
    for _ in range(iterations):
        probs = _erode_reference(probs)
        ridge = F.relu(probs - _open_reference(probs))
        skeleton = skeleton + F.relu(ridge - skeleton * ridge)
    return skeleton


def _open_reference(x: Tensor) -> Tensor:
    return F.max_pool2d(_erode_reference(x), 3, 1, 1)


def _erode_reference(x: Tensor) -> Tensor:
    return torch.minimum(-F.max_pool2d(-x, (3, 1), 1, (1, 0)), -F.max_pool2d(-x, (1, 3), 1, (0, 1)))


class _SoftSkeleton(torch.autograd.Function):
    """Skeleton = 1 - product over levels i of (1 - ridge_i), ridge_i = relu(x_i - dilate(x_i+1)), x_i+1 = erode(x_i).

    Every opening needs the erosion that makes the next level, so there are iterations + 1 erosions, not twice as many.
    Only the levels are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, probs: Tensor, iterations: int) -> Tensor:
        levels, rest = [probs.contiguous()], torch.ones_like(probs, memory_format=torch.contiguous_format)
        for _ in range(iterations + 1):
            levels.append(cross(torch.minimum, levels[-1]))
            rest -= rest * _ridge(levels[-2], levels[-1])
        ctx.save_for_backward(*levels)
        return 1 - rest

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        levels: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        ridges = [_ridge(level, eroded) for level, eroded in pairwise(levels)]
        others = _products_of_others([1 - ridge for ridge in ridges])
        grad = torch.zeros_like(levels[0])  # of the next level; the last one is in no ridge of its own
        for level, eroded, ridge, other in reversed(list(zip(levels[:-1], levels[1:], ridges, others, strict=True))):
            grad_ridge = grads[0] * other * (ridge > 0)
            rows = _line(torch.maximum, eroded, COLUMNS)
            grad_rows = _line_backward(torch.ge, torch.maximum, rows, grad_ridge, ROWS)
            grad -= _line_backward(torch.ge, torch.maximum, eroded, grad_rows, COLUMNS)
            across, along = (_line(torch.minimum, level, dim) for dim in (COLUMNS, ROWS))
            grad_across = grad * (across <= along)
            grad = _line_backward(torch.le, torch.minimum, level, grad - grad_across, ROWS)
            grad += _line_backward(torch.le, torch.minimum, level, grad_across, COLUMNS)
            grad += grad_ridge
        return grad, None


def _products_of_others(factors: list[Tensor]) -> list[Tensor]:
    """Compute for every factor the product of all others, without a division."""
    before, after = [torch.ones_like(factors[0])], [torch.ones_like(factors[0])]
    for factor in factors[:-1]:
        before.append(before[-1] * factor)
    for factor in factors[:0:-1]:
        after.append(after[-1] * factor)
    return [left * right for left, right in zip(before, reversed(after), strict=True)]


def _ridge(level: Tensor, eroded: Tensor) -> Tensor:
    """Compute what an opening removes: relu(level - the maxima of `eroded` over 3 x 3 px)."""
    return (level - box(torch.maximum, eroded)).relu_()


def _line(extremum: Extremum, x: Tensor, dim: int) -> Tensor:
    """Take the maximum or minimum of every pixel and its two neighbors along `dim`."""
    pairs = extremum(*_neighbors(x, dim))
    result = torch.empty_like(x)
    extremum(*_neighbors(pairs, dim), out=result.narrow(dim, 1, x.shape[dim] - 2))
    result.select(dim, 0).copy_(pairs.select(dim, 0))
    result.select(dim, -1).copy_(pairs.select(dim, -1))
    return result


def _line_backward(first_wins: Extremum, extremum: Extremum, x: Tensor, grad: Tensor, dim: int) -> Tensor:
    """Send the gradient of `_line` to the pixel that is the maximum or minimum. first_wins: torch.ge or torch.le."""
    pairs = extremum(*_neighbors(x, dim))
    grad_pairs = _pairs_backward(first_wins, pairs, grad.narrow(dim, 1, x.shape[dim] - 2), dim)
    grad_pairs.select(dim, 0).add_(grad.select(dim, 0))
    grad_pairs.select(dim, -1).add_(grad.select(dim, -1))
    return _pairs_backward(first_wins, x, grad_pairs, dim)


def _pairs_backward(first_wins: Extremum, x: Tensor, grad: Tensor, dim: int) -> Tensor:
    """Send the gradient of the maxima or minima of neighboring pairs of x, one less than x has pixels, to x."""
    result = torch.empty_like(x)
    to_first, to_second = _neighbors(result, dim)
    torch.mul(grad, first_wins(*_neighbors(x, dim)), out=to_first)
    rest = grad - to_first
    result.select(dim, -1).zero_()
    to_second += rest
    return result


def _neighbors(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return all but the last and all but the first pixel along `dim`: the two sides of each neighboring pair."""
    count = x.shape[dim] - 1
    return x.narrow(dim, 0, count), x.narrow(dim, 1, count)
