"""The deformable convolution equals torchvision's operator and its own reference, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from mnsa.model.ops.deform_conv import DeformConv2d, OffsetPredictor, PointwiseConv2d, deform_conv2d_reference
from mnsa.model.ops.deform_conv import deform_conv2d as fast_deform_conv2d

TOLERANCE = 1e-10


def both(conv: DeformConv2d, features: Tensor, offsets: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients (features, offsets, weight, bias) of ours and of torchvision's."""
    inputs = [features.requires_grad_(), offsets.requires_grad_(), conv.weight, conv.bias]
    padding = conv.weight.shape[-1] // 2
    ours = conv(features, offsets)
    theirs = deform_conv2d(features, offsets, conv.weight, conv.bias, padding=padding)
    pull = torch.randn_like(ours)
    return [ours, *torch.autograd.grad(ours, inputs, pull)], [theirs, *torch.autograd.grad(theirs, inputs, pull)]


def assert_same(conv: DeformConv2d, features: Tensor, offsets: Tensor) -> None:
    for ours, theirs in zip(*both(conv, features, offsets), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE)


def random_case(kernel_size: int, height: int, width: int, spread_px: float) -> tuple[DeformConv2d, Tensor, Tensor]:
    conv = DeformConv2d(3, 2, kernel_size).double()
    features = torch.randn(2, 3, height, width, dtype=torch.float64)
    offsets = spread_px * torch.randn(2, 2 * kernel_size**2, height, width, dtype=torch.float64)
    return conv, features, offsets


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 12), (13, 4), (1, 6), (5, 1), (1, 1)])
def test_values_and_all_gradients_equal_torchvision(kernel_size: int, height: int, width: int) -> None:
    torch.manual_seed(height * width)
    assert_same(*random_case(kernel_size, height, width, spread_px=2.0))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_values_and_gradients_equal_the_reference(kernel_size: int) -> None:
    torch.manual_seed(0)
    conv, features, offsets = random_case(kernel_size, 7, 5, spread_px=2.0)
    given = features.requires_grad_(), offsets.requires_grad_(), conv.weight
    ours, theirs = (f(*given) for f in (fast_deform_conv2d, deform_conv2d_reference))
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    torch.testing.assert_close(*(torch.autograd.grad(result, given, upstream) for result in (ours, theirs)))


def test_positions_outside_the_map_read_zero_as_in_torchvision() -> None:
    torch.manual_seed(0)
    conv, features, offsets = random_case(3, 6, 9, spread_px=40.0)
    assert_same(conv, features, offsets)
    far = torch.full_like(offsets, 1000.0)
    torch.testing.assert_close(conv(features, far), conv.bias.view(1, -1, 1, 1).expand(2, 2, 6, 9))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    kernel_size=st.sampled_from([1, 3, 5]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    spread_px=st.floats(0.1, 20),
)
def test_any_shape_and_any_offsets_agree_with_torchvision(
    seed: int, kernel_size: int, height: int, width: int, spread_px: float
) -> None:
    torch.manual_seed(seed)
    assert_same(*random_case(kernel_size, height, width, spread_px))


def test_whole_pixel_offsets_shift_a_plain_convolution() -> None:
    torch.manual_seed(0)
    conv = DeformConv2d(3, 2, kernel_size=3).double()
    features = torch.randn(1, 3, 10, 10, dtype=torch.float64)
    offsets = torch.ones(1, 18, 10, 10, dtype=torch.float64)
    offsets[:, 0::2] = 2  # dy 2, dx 1
    plain = nn.functional.conv2d(features, conv.weight, conv.bias)  # (1, 2, 8, 8), no padding: centers at 1..8
    torch.testing.assert_close(conv(features, offsets)[..., 1:7, 1:8], plain[..., 2:8, 1:8])


def test_a_new_offset_predictor_gives_a_plain_convolution() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 4, 9, 7)
    conv, predictor = DeformConv2d(4, 3, kernel_size=5), OffsetPredictor(4, 8, kernel_size=5)
    plain = nn.functional.conv2d(features, conv.weight, conv.bias, padding=2)
    torch.testing.assert_close(conv(features, predictor(features)), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_convolution_equals_a_1x1_convolution(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = PointwiseConv2d(5, 7).double()
    features = torch.randn(2, 5, 3, 4, dtype=torch.float64).contiguous(memory_format=memory_format)
    torch.testing.assert_close(conv(features), nn.functional.conv2d(features, conv.weight, conv.bias))


def test_bfloat16_keeps_positions_exact() -> None:
    # Near column 300, bfloat16 can store even columns only. Each pixel must still be read at its own column.
    conv = DeformConv2d(1, 1, kernel_size=1)
    nn.init.ones_(conv.weight)
    ramp = torch.arange(400).remainder(2).float().expand(1, 1, 2, 400).contiguous()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read = conv(ramp, torch.zeros(1, 2, 2, 400, dtype=torch.bfloat16))
    torch.testing.assert_close(read.float(), ramp, rtol=0, atol=1e-2)


def test_the_exported_operator_gives_the_same_output() -> None:
    torch.manual_seed(0)
    conv = DeformConv2d(3, 2, kernel_size=3).eval()
    features, offsets = torch.randn(1, 3, 6, 5), torch.randn(1, 18, 6, 5)
    program = torch.export.export(conv, (features, offsets))
    torch.testing.assert_close(program.module()(features, offsets), conv(features, offsets))
