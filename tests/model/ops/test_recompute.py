"""Recomputed maps equal those of the reference, which saves them; nothing is saved twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from mnsa.model.ops.concat_conv import resize, resize_recomputed
from mnsa.model.ops.recompute import (
    batch_norm_relu,
    batch_norm_relu_reference,
    can_recompute,
    recomputing,
    without_saving,
)

FORMATS = [torch.contiguous_format, torch.channels_last]


def make_features(memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    torch.manual_seed(0)
    drawn = 3 + 2 * torch.randn(4, 5, 6, 7, dtype=torch.float64)
    return drawn.contiguous(memory_format=memory_format).requires_grad_()


def make_norm() -> nn.BatchNorm2d:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def make_kernel() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(3, 5, 3, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
def test_values_gradients_and_running_statistics_equal_the_reference(memory_format: torch.memory_format) -> None:
    outputs, gradients, states = [], [], []
    for compute in (batch_norm_relu, batch_norm_relu_reference):
        given, norm = make_features(memory_format), make_norm()
        output = compute(given, norm)
        output.mul(torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum().backward()
        outputs.append(output)
        gradients.append([given.grad, norm.weight.grad, norm.bias.grad])
        states.append(norm.state_dict())
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*states)


def saved_input(convolved: Tensor) -> Tensor:
    """The input that a convolution has saved for the backward pass."""
    node: Any = convolved.grad_fn
    saved: Tensor = node._saved_input
    return saved


def test_a_convolution_does_not_save_the_activated_map_and_recomputes_it() -> None:
    activated = batch_norm_relu(make_features(), make_norm())
    with without_saving([activated]):
        convolved = F.conv2d(activated, make_kernel())
    saved = saved_input(convolved)
    assert saved.data_ptr() != activated.data_ptr()
    torch.testing.assert_close(saved, activated.detach())


def test_a_resized_map_is_recomputed_from_the_map_before_the_norm() -> None:
    activated = batch_norm_relu(make_features(), make_norm())
    larger = resize_recomputed(activated, (12, 15))
    with without_saving([larger]):
        convolved = F.conv2d(larger, make_kernel())
    saved = saved_input(convolved)
    assert saved.data_ptr() != larger.data_ptr()
    torch.testing.assert_close(saved, resize(activated, (12, 15)).detach())


def saved_bytes(compute: Callable[[], Tensor]) -> int:
    """Compute something, and count the bytes that autograd saves for the backward pass."""
    sizes: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        sizes[saved.data_ptr()] = saved.nbytes
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved):
        compute()
    return sum(sizes.values())


def test_a_resized_map_saves_the_map_it_was_made_of_and_not_itself() -> None:
    leaf, weight = make_features(), make_kernel()

    def recomputed() -> Tensor:
        larger = resize_recomputed(leaf * 1, (12, 15))
        with without_saving([larger]):
            return F.conv2d(larger, weight)

    plain = saved_bytes(lambda: F.conv2d(resize(leaf * 1, (12, 15)), weight))
    assert plain == weight.nbytes + leaf.nbytes // (6 * 7) * 12 * 15
    assert saved_bytes(recomputed) == leaf.nbytes  # the hooks of `without_saving` replace ours for the convolution


def test_a_block_after_a_block_saves_one_map_per_convolution() -> None:
    norm, weight = make_norm(), make_kernel()
    given = make_features()

    def block() -> Tensor:
        activated = batch_norm_relu(given * 1, norm)
        with without_saving([activated]):
            return F.conv2d(activated, weight)

    small = 4 * 5 * 8  # weight, bias, mean and inverse deviation of five channels
    assert saved_bytes(block) == given.nbytes + small


def test_resizing_an_activated_map_does_not_save_it() -> None:
    given, norm = make_features(), make_norm()
    activation = saved_bytes(lambda: batch_norm_relu(given * 1, norm))
    assert saved_bytes(lambda: resize_recomputed(batch_norm_relu(given * 1, norm), (12, 15))) == activation


def test_a_resized_map_has_the_gradient_of_resize() -> None:
    given = make_features()
    upstream = torch.randn(4, 5, 12, 15, dtype=torch.float64)
    gradients = [torch.autograd.grad(f(given, (12, 15)), given, upstream) for f in (resize_recomputed, resize)]
    torch.testing.assert_close(*gradients)


def test_gradients_through_recomputed_maps_equal_the_reference_in_repeated_backward_passes() -> None:
    given, norm, weight = make_features(), make_norm(), make_kernel()
    expected = torch.autograd.grad(
        F.conv2d(resize(batch_norm_relu_reference(given, norm), (12, 15)), weight).square().sum(), given
    )
    larger = resize_recomputed(batch_norm_relu(given, norm), (12, 15))
    with without_saving([larger]):
        total = F.conv2d(larger, weight).square().sum()
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(total, given, retain_graph=True), expected)


def test_other_maps_are_saved_as_usual() -> None:
    given = make_features()
    with without_saving([given]):
        convolved = F.conv2d(given, make_kernel())
    assert saved_input(convolved).data_ptr() == given.data_ptr()


def test_only_a_plain_norm_in_training_is_recomputed() -> None:
    assert can_recompute(make_norm())
    assert not can_recompute(make_norm().eval())
    assert not can_recompute(nn.SyncBatchNorm(5))
    with torch.no_grad():
        assert not can_recompute(make_norm())


def test_recomputation_can_be_switched_off_for_a_while() -> None:
    features, norm = make_features(), make_norm()
    with recomputing(False):
        assert not can_recompute(norm)
        stored = resize_recomputed(features, (12, 14))
    assert can_recompute(norm)
    assert hasattr(resize_recomputed(features, (12, 14)).grad_fn, "recompute")
    assert not hasattr(stored.grad_fn, "recompute")
