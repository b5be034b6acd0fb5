"""`ConcatConv2d` equals its reference: a convolution of the concatenated maps."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mnsa.model.ops.concat_conv import ConcatConv2d, SplitKernel, concat_conv2d_reference
from narrowing import some

CHANNELS = (3, 5, 2)

MANY, FEW = (13, 9), (2, 3)  # pixels: more than the output channels, and fewer

FORMATS = [torch.contiguous_format, torch.channels_last]


def make_maps(size: tuple[int, int], *, frozen: int = 0) -> list[Tensor]:
    torch.manual_seed(0)
    drawn = [torch.randn(2, c, *size, dtype=torch.float64) for c in CHANNELS]
    return [m.requires_grad_(i >= frozen) for i, m in enumerate(drawn)]


def make_conv(dilation: int = 1, memory_format: torch.memory_format = torch.channels_last) -> ConcatConv2d:
    torch.manual_seed(1)
    return ConcatConv2d(sum(CHANNELS), 24, dilation).double().to(memory_format=memory_format)


def reference(module: ConcatConv2d, maps: Sequence[Tensor]) -> Tensor:
    return concat_conv2d_reference(maps, module.weight, module.bias, module.dilation[0])


def test_the_reference_is_a_convolution_of_the_concatenated_maps() -> None:
    module, maps = make_conv(2), make_maps(MANY)
    plain = torch.nn.Conv2d(sum(CHANNELS), 24, 3, padding=2, dilation=2).double()
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(reference(module, maps), plain(torch.cat(maps, dim=1)))


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [MANY, FEW, (1, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_values_and_gradients_equal_the_reference(
    dilation: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    module, maps = make_conv(dilation, memory_format), make_maps(size)
    given = [*maps, module.weight, some(module.bias)]
    ours, theirs = module(*maps), reference(module, maps)
    upstream = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs)
    pairs = zip(torch.autograd.grad(ours, given, upstream), torch.autograd.grad(theirs, given, upstream), strict=True)
    for gradient, expected in pairs:
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("size", [MANY, FEW])
def test_only_a_frozen_map_gets_no_gradient(size: tuple[int, int]) -> None:
    module, maps = make_conv(), make_maps(size, frozen=1)
    module(*maps).square().sum().backward()
    assert maps[0].grad is None
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps[1:])


@pytest.mark.parametrize("size", [MANY, FEW])
def test_frozen_weights_get_no_gradient(size: tuple[int, int]) -> None:
    module, maps = make_conv().requires_grad_(False), make_maps(size)
    module(*maps).sum().backward()
    assert module.weight.grad is None
    assert maps[0].grad is not None


def run_in_bfloat16(module: ConcatConv2d, maps: Sequence[Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded: Tensor = module(*maps)
    return rounded


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [MANY, FEW])
def test_bfloat16_differs_only_by_its_rounding(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    module, maps = (
        make_conv(memory_format=memory_format).float(),
        [m.detach().float().requires_grad_() for m in make_maps(size)],
    )
    given = [*maps, module.weight, some(module.bias)]
    rounded, expected = run_in_bfloat16(module, maps), reference(module, maps)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, atol=0.05, rtol=0.05)
    upstream = torch.randn_like(expected)
    gradients = torch.autograd.grad(rounded, given, upstream.bfloat16())
    for gradient, exact in zip(gradients, torch.autograd.grad(expected, given, upstream), strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - exact).norm() < 0.01 * exact.norm()


def test_dilated_convolutions_of_few_channels_have_correct_gradients_in_bfloat16() -> None:
    torch.manual_seed(0)
    module = ConcatConv2d(24, 3, dilation=2).to(memory_format=torch.channels_last)
    features = torch.randn(2, 24, 64, 64).to(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(run_in_bfloat16(module, [features]).float().square().mean(), module.weight)
    (exact,) = torch.autograd.grad(reference(module, [features]).square().mean(), module.weight)
    assert (gradient - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("size", [MANY, FEW])
def test_an_activation_can_change_the_result_in_place(size: tuple[int, int]) -> None:
    module, maps = make_conv(), make_maps(size)
    in_place = torch.autograd.grad(module(*maps).relu_().sum(), maps)
    for ours, theirs in zip(in_place, torch.autograd.grad(reference(module, maps).relu().sum(), maps), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_maps_of_few_pixels_are_convolved_per_tap() -> None:
    module = make_conv()
    assert "ConvPerTap" in module(*make_maps(FEW)).grad_fn.name()
    assert "ConvPerTap" not in module(*make_maps(MANY)).grad_fn.name()


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [MANY, FEW])
def test_the_weight_gradient_has_the_memory_format_of_the_weight(
    size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    module = make_conv(memory_format=memory_format)
    module(*make_maps(size)).sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad.stride() == module.weight.stride()


def test_a_state_dict_of_a_plain_convolution_fits() -> None:
    ordinary = torch.nn.Conv2d(sum(CHANNELS), 24, 3)
    make_conv().float().load_state_dict(ordinary.state_dict(), strict=True)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)
def test_a_split_kernel_has_the_gradient_of_torch_split_in_the_memory_format_of_the_kernel(
    memory_format: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4, 7, 3, 3).to(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(4, 3, 3, 3), torch.randn(4, 4, 3, 3).to(memory_format=torch.channels_last)
    ours, theirs = SplitKernel.apply(kernel, 3), torch.split(kernel, [3, 4], dim=1)
    for own, expected in zip(ours, theirs, strict=True):
        assert torch.equal(own, expected)
    (gradient,), (expected,) = (torch.autograd.grad(parts, kernel, upstream) for parts in (ours, theirs))
    assert torch.equal(gradient, expected)
    assert gradient.stride() == kernel.stride()
