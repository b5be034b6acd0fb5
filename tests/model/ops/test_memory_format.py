"""The layout of kernels decides that of maps."""

import pytest
import torch
from torch import nn

from mnsa.model.ops.memory_format import set_memory_format

KERNELS = [nn.Conv2d(4, 8, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3)]


@pytest.mark.parametrize("conv", KERNELS, ids=["1x1", "depthwise", "3x3"])
def test_there_and_back_every_kernel_has_the_strides_it_began_with(conv: nn.Conv2d) -> None:
    before, values = conv.weight.stride(), conv.weight.detach().clone()
    set_memory_format(conv, torch.channels_last)
    assert conv.weight.stride() != before
    set_memory_format(conv, torch.contiguous_format)
    assert conv.weight.stride() == before
    assert torch.equal(conv.weight, values)


@pytest.mark.parametrize("conv", KERNELS, ids=["1x1", "depthwise", "3x3"])
def test_maps_are_contiguous_where_kernels_are(conv: nn.Conv2d) -> None:
    set_memory_format(conv, torch.channels_last)
    set_memory_format(conv, torch.contiguous_format)
    assert conv(torch.randn(2, 4, 6, 5)).is_contiguous()
