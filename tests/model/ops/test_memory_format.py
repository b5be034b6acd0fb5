"""The memory format of kernels decides that of feature maps."""

import pytest
import torch
from torch import nn

from mnsa.model.ops.memory_format import set_memory_format, set_memory_format_reference

KERNELS = [nn.Conv2d(4, 8, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3)]


@pytest.mark.parametrize("conv", KERNELS, ids=["1x1", "depthwise", "3x3"])
def test_changing_the_format_back_restores_the_strides_of_every_kernel(conv: nn.Conv2d) -> None:
    before, values = conv.weight.stride(), conv.weight.detach().clone()
    set_memory_format(conv, torch.channels_last)
    assert conv.weight.stride() != before
    set_memory_format(conv, torch.contiguous_format)
    assert conv.weight.stride() == before
    assert torch.equal(conv.weight, values)


@pytest.mark.parametrize("conv", KERNELS, ids=["1x1", "depthwise", "3x3"])
def test_outputs_are_contiguous_when_kernels_are(conv: nn.Conv2d) -> None:
    set_memory_format(conv, torch.channels_last)
    set_memory_format(conv, torch.contiguous_format)
    assert conv(torch.randn(2, 4, 6, 5)).is_contiguous()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_outputs_and_gradients_equal_the_reference(kernel_size: int) -> None:
    results = []
    for convert in (set_memory_format, set_memory_format_reference):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(4, 8, kernel_size), nn.ReLU(), nn.Conv2d(8, 2, 1)).double()
        convert(network, torch.channels_last)
        features = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
        output = network(features.contiguous(memory_format=torch.channels_last))
        results.append([output, *torch.autograd.grad(output.square().sum(), [features, *network.parameters()])])
    torch.testing.assert_close(*results)
