"""A convolution of joined maps, against torch's own on their concatenation."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.model.ops.concat_conv import ConcatConv2d, SplitKernel

CHANNELS = (3, 5, 2)

MANY, FEW = (13, 9), (2, 3)  # pixels: more than the output channels, and fewer

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def maps(size: tuple[int, int], *, frozen: int = 0) -> list[Tensor]:
    torch.manual_seed(0)
    drawn = [torch.randn(2, c, *size, dtype=torch.float64) for c in CHANNELS]
    return [m.requires_grad_(i >= frozen) for i, m in enumerate(drawn)]


def conv(dilation: int = 1, layout: torch.memory_format = torch.channels_last) -> ConcatConv2d:
    torch.manual_seed(1)
    return ConcatConv2d(sum(CHANNELS), 24, dilation).double().to(memory_format=layout)


def reference(module: ConcatConv2d, joined: Sequence[Tensor]) -> Tensor:
    reach = module.dilation[0]
    return F.conv2d(torch.cat(list(joined), dim=1), module.weight, module.bias, padding=reach, dilation=reach)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [MANY, FEW, (1, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_values_and_gradients_are_those_of_the_concatenation(
    dilation: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    module, joined = conv(dilation, layout), maps(size)
    given = [*joined, module.weight, module.bias]
    ours, theirs = module(*joined), reference(module, joined)
    upstream = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs)
    pairs = zip(torch.autograd.grad(ours, given, upstream), torch.autograd.grad(theirs, given, upstream), strict=True)
    for gradient, expected in pairs:
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("size", [MANY, FEW])
def test_a_frozen_map_gets_no_gradient_and_the_others_theirs(size: tuple[int, int]) -> None:
    module, joined = conv(), maps(size, frozen=1)
    module(*joined).square().sum().backward()
    assert joined[0].grad is None
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in joined[1:])


@pytest.mark.parametrize("size", [MANY, FEW])
def test_frozen_weights_get_no_gradient(size: tuple[int, int]) -> None:
    module, joined = conv().requires_grad_(False), maps(size)
    module(*joined).sum().backward()
    assert module.weight.grad is None
    assert joined[0].grad is not None


def in_mixed_precision(module: ConcatConv2d, joined: Sequence[Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded: Tensor = module(*joined)
    return rounded


@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [MANY, FEW])
def test_mixed_precision_differs_by_no_more_than_its_rounding(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    module, joined = conv(layout=layout).float(), [m.detach().float().requires_grad_() for m in maps(size)]
    given = [*joined, module.weight, module.bias]
    rounded, expected = in_mixed_precision(module, joined), reference(module, joined)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, atol=0.05, rtol=0.05)
    upstream = torch.randn_like(expected)
    gradients = torch.autograd.grad(rounded, given, upstream.bfloat16())
    for gradient, exact in zip(gradients, torch.autograd.grad(expected, given, upstream), strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - exact).norm() < 0.01 * exact.norm()


def test_dilated_convolutions_of_few_channels_have_weight_gradients_in_mixed_precision() -> None:
    torch.manual_seed(0)
    module = ConcatConv2d(24, 3, dilation=2).to(memory_format=torch.channels_last)
    features = torch.randn(2, 24, 64, 64).to(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(in_mixed_precision(module, [features]).float().square().mean(), module.weight)
    (exact,) = torch.autograd.grad(reference(module, [features]).square().mean(), module.weight)
    assert (gradient - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("size", [MANY, FEW])
def test_an_activation_may_change_the_result_in_place(size: tuple[int, int]) -> None:
    module, joined = conv(), maps(size)
    in_place = torch.autograd.grad(module(*joined).relu_().sum(), joined)
    for ours, theirs in zip(in_place, torch.autograd.grad(reference(module, joined).relu().sum(), joined), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_few_pixels_are_multiplied_tap_by_tap_and_many_are_not() -> None:
    module = conv()
    assert "TapByTap" in module(*maps(FEW)).grad_fn.name()
    assert "TapByTap" not in module(*maps(MANY)).grad_fn.name()


@pytest.mark.parametrize("layout", LAYOUTS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [MANY, FEW])
def test_the_gradient_lies_in_memory_as_the_weights_do(size: tuple[int, int], layout: torch.memory_format) -> None:
    module = conv(layout=layout)
    module(*maps(size)).sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad.stride() == module.weight.stride()


def test_it_has_the_parameters_of_an_ordinary_convolution() -> None:
    ordinary = torch.nn.Conv2d(sum(CHANNELS), 24, 3)
    conv().float().load_state_dict(ordinary.state_dict(), strict=True)


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
