"""What is made anew in the backward pass, against torch's own modules, which keep it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.model.ops.recompute import batch_norm_relu, can_recompute, resize_recomputed, without_saving
from mnsa.model.ops.upsample_conv import resize

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def features(layout: torch.memory_format = torch.channels_last) -> Tensor:
    torch.manual_seed(0)
    drawn = 3 + 2 * torch.randn(4, 5, 6, 7, dtype=torch.float64)
    return drawn.contiguous(memory_format=layout).requires_grad_()


def learning_norm() -> nn.BatchNorm2d:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def kernel() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(3, 5, 3, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "channels_last"])
def test_values_gradients_and_statistics_are_those_of_batchnorm_and_relu(layout: torch.memory_format) -> None:
    answers, gradients, states = [], [], []
    for ours in (True, False):
        given, norm = features(layout), learning_norm()
        answer = batch_norm_relu(given, norm) if ours else norm(given).relu()
        answer.mul(torch.linspace(-1, 1, answer.numel(), dtype=torch.float64).view_as(answer)).sum().backward()
        answers.append(answer)
        gradients.append([given.grad, norm.weight.grad, norm.bias.grad])
        states.append(norm.state_dict())
    torch.testing.assert_close(*answers)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*states)


def test_a_convolution_keeps_none_of_it_and_finds_it_again() -> None:
    activated = batch_norm_relu(features(), learning_norm())
    with without_saving([activated]):
        convolved = F.conv2d(activated, kernel())
    found = convolved.grad_fn._saved_input  # type: ignore[union-attr]
    assert found.data_ptr() != activated.data_ptr()
    torch.testing.assert_close(found, activated.detach())


def test_a_resized_map_is_made_of_what_it_was_made_of() -> None:
    activated = batch_norm_relu(features(), learning_norm())
    larger = resize_recomputed(activated, (12, 15))
    with without_saving([larger]):
        convolved = F.conv2d(larger, kernel())
    found = convolved.grad_fn._saved_input  # type: ignore[union-attr]
    assert found.data_ptr() != larger.data_ptr()
    torch.testing.assert_close(found, resize(activated, (12, 15)).detach())


def test_gradients_through_what_is_not_kept_are_the_same_however_often_they_are_asked_for() -> None:
    given, norm, weight = features(), learning_norm(), kernel()
    expected = torch.autograd.grad(F.conv2d(resize(norm(given).relu(), (12, 15)), weight).square().sum(), given)
    larger = resize_recomputed(batch_norm_relu(given, norm), (12, 15))
    with without_saving([larger]):
        total = F.conv2d(larger, weight).square().sum()
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(total, given, retain_graph=True), expected)


def test_other_maps_are_kept_as_ever() -> None:
    given = features()
    with without_saving([given]):
        convolved = F.conv2d(given, kernel())
    assert convolved.grad_fn._saved_input.data_ptr() == given.data_ptr()  # type: ignore[union-attr]


def test_a_norm_that_stands_still_or_is_another_keeps_its_own_way() -> None:
    assert can_recompute(learning_norm())
    assert not can_recompute(learning_norm().eval())
    assert not can_recompute(nn.SyncBatchNorm(5))
    with torch.no_grad():
        assert not can_recompute(learning_norm())
