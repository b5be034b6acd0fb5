"""Depthwise convolutions in bfloat16 on a CPU: values and gradients are those of plain PyTorch."""

import pytest
import torch
from torch import Tensor, nn

from mnsa.model.backbone import Conv2d
from mnsa.model.ops.depthwise_conv import (
    depthwise_conv,
    depthwise_conv_reference,
    is_depthwise,
)

CHANNELS = 6
BFLOAT16_STEP = 2.0**-8  # relative distance of neighboring numbers


def make_conv(kernel: int, stride: int, *, bias: bool) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, kernel // 2, groups=CHANNELS, bias=bias)


def make_features(height: int = 9, width: int = 12) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, CHANNELS, height, width)


def gradients(out: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    torch.manual_seed(2)
    grad = torch.randn(out.shape).bfloat16()
    return list(torch.autograd.grad(out, [tensor for tensor in inputs if tensor is not None], grad.to(out.dtype)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_values_equal_the_reference_and_gradients_those_of_float64(
    kernel: int, stride: int, bias: bool, memory_format: torch.memory_format
) -> None:
    conv = make_conv(kernel, stride, bias=bias)
    geometry = conv.stride, (kernel // 2, kernel // 2), conv.dilation
    features = make_features().contiguous(memory_format=memory_format).requires_grad_()
    out = depthwise_conv(features, conv.weight, conv.bias, *geometry)
    assert torch.equal(out, depthwise_conv_reference(features, conv.weight, conv.bias, *geometry))
    assert out.dtype == torch.bfloat16

    exact = make_conv(kernel, stride, bias=bias).double()
    exact.weight.data = conv.weight.detach().bfloat16().double()
    exact_features = features.detach().bfloat16().double().requires_grad_()
    expected = gradients(exact(exact_features), exact_features, exact.weight, exact.bias)
    found = gradients(out, features, conv.weight, conv.bias)
    for got, want in zip(found, expected, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), want, rtol=BFLOAT16_STEP, atol=BFLOAT16_STEP)


def test_the_gradient_of_the_weights_is_not_rounded_to_bfloat16() -> None:
    conv = make_conv(5, 2, bias=False)
    features = make_features()
    found = gradients(depthwise_conv(features, conv.weight, None, (2, 2), (2, 2), (1, 1)), conv.weight)
    exact = make_conv(5, 2, bias=False).double()
    expected = gradients(exact(features.bfloat16().double()), exact.weight)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 1, (1, 2)])
def test_a_module_shares_the_weights_of_its_convolution_and_its_values(
    padding: int | tuple[int, int],
) -> None:
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, padding, groups=CHANNELS)
    fast = Conv2d(conv)
    assert fast.weight is conv.weight
    assert fast.bias is conv.bias
    features = make_features()
    assert torch.equal(fast(features), conv(features))


def test_only_training_in_bfloat16_takes_the_fast_gradients() -> None:
    fast = Conv2d(make_conv(5, 1, bias=False))
    features = make_features()
    assert "DepthwiseConv" not in type(fast(features).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        assert "DepthwiseConv" in type(fast(features).grad_fn).__name__
        with torch.no_grad():
            assert torch.equal(fast(features), make_conv(5, 1, bias=False)(features))
    assert "DepthwiseConv" in type(fast.bfloat16()(features.bfloat16()).grad_fn).__name__


@pytest.mark.parametrize(("kernel", "stride", "slow"), [(3, 1, False), (3, 2, True), (5, 1, True), (5, 2, True)])
def test_gradients_that_are_fast_in_bfloat16_stay_in_it(kernel: int, stride: int, slow: bool) -> None:
    conv = Conv2d(make_conv(kernel, stride, bias=False)).bfloat16()
    node = type(conv(make_features().bfloat16()).grad_fn).__name__
    assert ("DepthwiseConv" in node) is slow


def test_frozen_weights_and_images_have_no_gradients() -> None:
    conv = make_conv(3, 1, bias=False).requires_grad_(requires_grad=False)
    features = make_features().requires_grad_()
    depthwise_conv(features, conv.weight, None, (1, 1), (1, 1), (1, 1)).float().sum().backward()
    assert conv.weight.grad is None
    assert features.grad is not None


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (nn.Conv2d(4, 4, 3, groups=4), True),
        (nn.Conv2d(4, 8, 3, groups=4), False),
        (nn.Conv2d(4, 4, 3, groups=2), False),
        (nn.Conv2d(1, 1, 3), False),
        (nn.Conv2d(4, 4, 3, groups=4, padding="same"), False),
        (nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"), False),
        (nn.Linear(4, 4), False),
    ],
)
def test_depthwise_is_one_kernel_for_each_channel_between_zeros(conv: nn.Module, expected: bool) -> None:
    assert is_depthwise(conv) is expected
