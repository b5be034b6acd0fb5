"""Gradients that are written where they belong, against torch's own."""

import pytest
import torch

from mnsa.model.joined_by_map import SplitKernel


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_a_split_kernels_gradient_is_torchs_and_lies_as_the_kernel(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4, 7, 3, 3).to(memory_format=layout).requires_grad_()
    upstream = torch.randn(4, 3, 3, 3), torch.randn(4, 4, 3, 3).to(memory_format=torch.channels_last)
    ours, theirs = SplitKernel.apply(kernel, 3), torch.split(kernel, [3, 4], dim=1)
    for own, expected in zip(ours, theirs, strict=True):
        assert torch.equal(own, expected)
    (gradient,), (expected,) = (torch.autograd.grad(parts, kernel, upstream) for parts in (ours, theirs))
    assert torch.equal(gradient, expected)
    assert gradient.stride() == kernel.stride()
