"""`upsample_conv2d` equals its reference: resize first, convolve afterwards."""

import pytest
import torch

from mnsa.model.ops.concat_conv import (
    ConcatConv2d,
    concat_conv2d_reference,
    resize,
    should_project_first,
    upsample_conv2d,
    upsample_conv2d_reference,
    upsample_matrix,
)
from narrowing import some

FORMATS = [torch.contiguous_format, torch.channels_last]
SIZES = [((4, 3), (8, 6)), ((3, 5), (5, 9)), ((1, 1), (2, 2)), ((2, 1), (3, 2))]


def test_resize_aligns_the_corners() -> None:
    ramp = torch.tensor([0.0, 1.0, 2.0]).expand(1, 1, 3, 3)
    torch.testing.assert_close(resize(ramp, (3, 5))[0, 0, 0], torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0]))


def test_the_reference_convolves_an_upsampled_map() -> None:
    ramp, center = torch.tensor([[0.0, 1.0]]).expand(1, 1, 2, 2), torch.zeros(1, 1, 3, 3)
    center[..., 1, 1] = 2
    torch.testing.assert_close(upsample_conv2d_reference(ramp, center, (2, 3))[0, 0, 0], torch.tensor([0.0, 1.0, 2.0]))


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_values_and_gradients_equal_the_reference(
    low: tuple[int, int], high: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    coarse = torch.randn(2, 7, *low, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    weight = torch.randn(5, 7, 3, 3, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    ours, theirs = upsample_conv2d(coarse, weight, high), upsample_conv2d_reference(coarse, weight, high)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    gradients = [torch.autograd.grad(result, (coarse, weight), upstream) for result in (ours, theirs)]
    for gradient, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_the_middle_tap_upsamples_a_row() -> None:
    row = torch.tensor([1.0, 3.0, 7.0])
    middle = upsample_matrix(3, 5, row).view(5, 3, 3)[..., 1]
    torch.testing.assert_close(middle @ row, torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0]))


def test_projecting_first_is_chosen_for_many_channels_on_a_cpu() -> None:
    assert should_project_first(torch.empty(2, 768, 14, 14), (28, 28))
    assert not should_project_first(torch.empty(2, 32, 56, 56), (112, 112))
    assert not should_project_first(torch.empty(2, 768, 14, 14), (14, 14))  # nothing is upsampled
    assert not should_project_first(torch.empty(2, 768, 14, 14, device="meta"), (28, 28))


@pytest.mark.parametrize("channels", [2, 64])  # resized first, and projected first
@pytest.mark.parametrize("high", [(4, 6), (8, 10)])  # fewer pixels than output channels, and more
def test_a_coarse_map_is_concatenated_as_if_it_were_resized(channels: int, high: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = ConcatConv2d(3 + channels, 80).double().to(memory_format=torch.channels_last)
    features = torch.randn(2, 3, *high, dtype=torch.float64)
    coarse = torch.randn(2, channels, high[0] // 2, high[1] // 2, dtype=torch.float64, requires_grad=True)
    assert should_project_first(coarse, high) == (channels == 64)
    ours = conv(features, coarse=coarse)
    theirs = concat_conv2d_reference([features], conv.weight, conv.bias, coarse=coarse)
    torch.testing.assert_close(ours, theirs)
    given = (coarse, conv.weight, some(conv.bias))
    upstream = torch.randn_like(theirs)
    gradients = [torch.autograd.grad(result, given, upstream) for result in (ours, theirs)]
    for gradient, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_bfloat16_keeps_a_coarse_map_close_to_float32() -> None:
    torch.manual_seed(0)
    conv, coarse, features = ConcatConv2d(67, 8), torch.randn(1, 64, 4, 4), torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        exact = conv(features, coarse=coarse)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = conv(features, coarse=coarse)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
