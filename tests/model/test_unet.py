"""The U-Net and U-Net 3+ decoders: their connections and their size."""

import pytest
import torch
from torch.nn import functional as F

from mnsa.model.decoder import EnhancedDecoder
from mnsa.model.enhancer import EnhancedFeatures
from mnsa.model.ops.concat_conv import ConcatConv2d
from mnsa.model.unet import UNet3PlusDecoder, UNetDecoder, resize_to_level
from mnsa.structures import FeaturePyramid
from narrowing import instance_of

SIZES = [(17, 11), (9, 6), (5, 3), (3, 2), (2, 1)]  # of an image of 33 x 21 px

CHANNELS, OUTPUTS = [3, 4, 5, 6, 7], [4, 5, 6, 7, 8]


def pyramid() -> FeaturePyramid:
    return FeaturePyramid(*[torch.randn(2, c, *size) for c, size in zip(CHANNELS, SIZES, strict=True)])


def test_each_level_has_its_own_size_for_even_and_odd_sides() -> None:
    decoder = UNetDecoder(CHANNELS, bridge_channels=9, out_channels=OUTPUTS)
    assert decoder.out_channels == tuple(OUTPUTS)
    assert [tuple(z.shape[1:]) for z in decoder(pyramid())] == [
        (o, *size) for o, size in zip(OUTPUTS, SIZES, strict=True)
    ]


def test_it_equals_the_enhanced_decoder_without_enhanced_features() -> None:
    torch.manual_seed(0)
    none = [0] * 5
    plain = UNetDecoder(CHANNELS, 9, OUTPUTS).eval()
    enhanced = EnhancedDecoder(CHANNELS, none, none, 9, OUTPUTS).eval()
    enhanced.load_state_dict(dict(zip(enhanced.state_dict(), plain.state_dict().values(), strict=True)))
    maps = pyramid()
    nothing = [EnhancedFeatures(torch.empty(2, 0, *size), torch.empty(2, 0, *size)) for size in SIZES]
    for ours, theirs in zip(plain(maps), enhanced(maps, nothing), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_bridge_is_two_convolutions_of_the_deepest_level() -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(CHANNELS, bridge_channels=9, out_channels=OUTPUTS).eval()
    maps = pyramid()
    seen: list[torch.Tensor] = []
    decoder.levels[4].register_forward_pre_hook(lambda _, given: seen.append(torch.cat(given, dim=1)))
    decoder(maps)
    assert [type(m) for m in decoder.bridge] == [ConcatConv2d, ConcatConv2d]
    first, second = (instance_of(ConcatConv2d, conv) for conv in decoder.bridge)
    bridge = F.conv2d(F.conv2d(maps.level5, first.weight, first.bias, padding=1), second.weight, second.bias, padding=1)
    torch.testing.assert_close(seen[0], torch.cat((maps.level5, bridge), dim=1))


UNET3PLUS_CHANNELS = [3, 4, 5, 6, 7]

EVEN = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]

ROUNDED_UP = [(17, 11), (9, 6), (5, 3), (3, 2), (2, 1)]  # of an image of 33 x 21 px

ROUNDED_DOWN = [(33, 35), (16, 17), (8, 8), (4, 4), (2, 2)]  # of 67 x 71 px: VGG drops odd rows and columns


def unet3plus_pyramid(sizes: list[tuple[int, int]]) -> FeaturePyramid:
    return FeaturePyramid(*[torch.randn(2, c, *size) for c, size in zip(UNET3PLUS_CHANNELS, sizes, strict=True)])


@pytest.mark.parametrize("sizes", [EVEN, ROUNDED_UP, ROUNDED_DOWN])
def test_each_unet3plus_level_has_its_own_size_for_even_and_odd_sides(sizes: list[tuple[int, int]]) -> None:
    decoder = UNet3PlusDecoder(UNET3PLUS_CHANNELS, source_channels=2)
    levels = decoder(unet3plus_pyramid(sizes))
    assert decoder.out_channels == (10, 10, 10, 10, 7)
    assert [tuple(z.shape[1:]) for z in levels] == [
        (o, *size) for o, size in zip(decoder.out_channels, sizes, strict=True)
    ]


def test_larger_maps_are_max_pooled_and_smaller_ones_are_interpolated() -> None:
    maps = unet3plus_pyramid(EVEN)
    first, second, own, fourth, fifth = resize_to_level(3, maps)
    assert torch.equal(first, F.adaptive_max_pool2d(maps.level1, (8, 12)))
    assert torch.equal(second, F.adaptive_max_pool2d(maps.level2, (8, 12)))
    assert own is maps.level3
    for ours, x in ((fourth, maps.level4), (fifth, maps.level5)):
        torch.testing.assert_close(ours, F.interpolate(x, (8, 12), mode="bilinear", align_corners=True))


@pytest.mark.parametrize("sizes", [ROUNDED_UP, ROUNDED_DOWN])
def test_a_pooled_pixel_is_the_maximum_of_its_pixels_at_the_finer_level(
    sizes: list[tuple[int, int]],
) -> None:
    maps = unet3plus_pyramid(sizes)
    pooled = resize_to_level(4, maps)[0]
    for y, x in [(0, 0), (sizes[3][0] - 1, sizes[3][1] - 1)]:
        window = maps.level1[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        torch.testing.assert_close(pooled[:, :, y, x], window.amax((2, 3)))


def test_every_level_depends_on_all_five_levels() -> None:
    torch.manual_seed(0)
    decoder = UNet3PlusDecoder(UNET3PLUS_CHANNELS, source_channels=8).eval()
    maps = unet3plus_pyramid(EVEN)
    before = decoder(maps)
    for level in range(5):
        changed = [x + 5.0 * (n == level) for n, x in enumerate(maps)]
        after = decoder(FeaturePyramid(*changed))
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert same == [False, False, False, False, level < 4]  # level 5 is F_5 itself


def test_the_number_of_parameters_is_the_sum_over_the_blocks() -> None:
    channels = [96, 384, 768, 2112, 2208]
    decoder = UNet3PlusDecoder(channels, source_channels=64)
    sources = [(*channels[:level], *[320] * (4 - level), 2208) for level in (1, 2, 3, 4)]
    blocks = [9 * c * 64 + 3 * 64 for row in sources for c in row] + [9 * 320 * 320 + 3 * 320] * 4
    assert sum(p.numel() for p in decoder.parameters()) == sum(blocks)
