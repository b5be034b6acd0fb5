"""The decoders: their connections and sizes, with weights for which the output is known."""

import pytest
import torch
from torch.nn import functional as F

from mnsa.model.decoder import EnhancedDecoder, UNet3PlusDecoder, UNetDecoder, resize_to_level, side_logits
from mnsa.model.enhancer import EnhancedFeatures
from mnsa.model.ops.concat_conv import ConcatConv2d, resize
from mnsa.structures import FeaturePyramid
from narrowing import instance_of

SIZES = [(17, 11), (9, 6), (5, 3), (3, 2), (2, 1)]  # of an image of 33 x 21 px, rounded up

CHANNELS, OUTPUTS = [3, 4, 5, 6, 7], [4, 5, 6, 7, 8]

EVEN = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]

ROUNDED_DOWN = [(33, 35), (16, 17), (8, 8), (4, 4), (2, 2)]  # of 67 x 71 px: VGG drops odd rows and columns


def inputs(channels: list[int], details: list[int], skips: list[int]) -> tuple[FeaturePyramid, list[EnhancedFeatures]]:
    pyramid = FeaturePyramid(*[torch.randn(2, c, *size) for c, size in zip(channels, SIZES, strict=True)])
    rows = zip(details, skips, SIZES, strict=True)
    return pyramid, [EnhancedFeatures(torch.randn(2, d, *size), torch.randn(2, s, *size)) for d, s, size in rows]


def test_each_level_has_its_own_size_for_even_and_odd_sides() -> None:
    channels, details, skips, outputs = [3, 4, 5, 6, 7], [2, 3, 2, 3, 2], [1, 1, 2, 2, 1], [4, 5, 6, 7, 8]
    decoder = EnhancedDecoder(channels, details, skips, bridge_channels=9, out_channels=outputs)
    levels = decoder(*inputs(channels, details, skips))
    assert [tuple(z.shape[1:]) for z in levels] == [(o, *size) for o, size in zip(outputs, SIZES, strict=True)]


def test_the_bridge_is_two_convolutions() -> None:
    decoder = EnhancedDecoder([1] * 5, [1] * 5, [1] * 5, bridge_channels=3, out_channels=[2] * 5)
    assert [type(m) for m in decoder.bridge] == [ConcatConv2d, ConcatConv2d]


def test_the_skip_of_a_level_changes_that_level_and_finer_levels_only() -> None:
    torch.manual_seed(0)
    decoder = EnhancedDecoder([2] * 5, [2] * 5, [1] * 5, bridge_channels=4, out_channels=[4] * 5).eval()
    pyramid, enhanced = inputs([2] * 5, [2] * 5, [1] * 5)
    before = decoder(pyramid, enhanced)
    enhanced[2] = enhanced[2]._replace(skip=enhanced[2].skip + 10)
    after = decoder(pyramid, enhanced)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, False, False, True, True]


def test_side_logits_are_channel_means_at_the_size_of_the_finer_level() -> None:
    outputs = [torch.randn(2, 3 + level, *size) for level, size in enumerate(SIZES)]
    sides = side_logits(outputs)
    assert len(sides) == 4
    for side, output, size in zip(sides, outputs[1:], SIZES[:-1], strict=True):
        torch.testing.assert_close(side, resize(output, size).mean(dim=1, keepdim=True))


def random_pyramid(sizes: list[tuple[int, int]]) -> FeaturePyramid:
    return FeaturePyramid(*[torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)])


def test_each_level_of_a_unet_has_its_own_size_for_even_and_odd_sides() -> None:
    decoder = UNetDecoder(CHANNELS, bridge_channels=9, out_channels=OUTPUTS)
    assert decoder.out_channels == tuple(OUTPUTS)
    assert [tuple(z.shape[1:]) for z in decoder(random_pyramid(SIZES))] == [
        (o, *size) for o, size in zip(OUTPUTS, SIZES, strict=True)
    ]


def test_a_unet_equals_the_enhanced_decoder_without_enhanced_features() -> None:
    torch.manual_seed(0)
    none = [0] * 5
    plain = UNetDecoder(CHANNELS, 9, OUTPUTS).eval()
    enhanced = EnhancedDecoder(CHANNELS, none, none, 9, OUTPUTS).eval()
    enhanced.load_state_dict(dict(zip(enhanced.state_dict(), plain.state_dict().values(), strict=True)))
    maps = random_pyramid(SIZES)
    nothing = [EnhancedFeatures(torch.empty(2, 0, *size), torch.empty(2, 0, *size)) for size in SIZES]
    for ours, theirs in zip(plain(maps), enhanced(maps, nothing), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_bridge_of_a_unet_is_two_convolutions_of_the_deepest_level() -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(CHANNELS, bridge_channels=9, out_channels=OUTPUTS).eval()
    maps = random_pyramid(SIZES)
    seen: list[torch.Tensor] = []
    decoder.levels[4].register_forward_pre_hook(lambda _, given: seen.append(torch.cat(given, dim=1)))
    decoder(maps)
    assert [type(m) for m in decoder.bridge] == [ConcatConv2d, ConcatConv2d]
    first, second = (instance_of(ConcatConv2d, conv) for conv in decoder.bridge)
    bridge = F.conv2d(F.conv2d(maps.level5, first.weight, first.bias, padding=1), second.weight, second.bias, padding=1)
    torch.testing.assert_close(seen[0], torch.cat((maps.level5, bridge), dim=1))


@pytest.mark.parametrize("sizes", [EVEN, SIZES, ROUNDED_DOWN])
def test_each_unet3plus_level_has_its_own_size_for_even_and_odd_sides(sizes: list[tuple[int, int]]) -> None:
    decoder = UNet3PlusDecoder(CHANNELS, source_channels=2)
    levels = decoder(random_pyramid(sizes))
    assert decoder.out_channels == (10, 10, 10, 10, 7)
    assert [tuple(z.shape[1:]) for z in levels] == [
        (o, *size) for o, size in zip(decoder.out_channels, sizes, strict=True)
    ]


def test_larger_maps_are_max_pooled_and_smaller_ones_are_interpolated() -> None:
    maps = random_pyramid(EVEN)
    first, second, own, fourth, fifth = resize_to_level(3, maps)
    assert torch.equal(first, F.adaptive_max_pool2d(maps.level1, (8, 12)))
    assert torch.equal(second, F.adaptive_max_pool2d(maps.level2, (8, 12)))
    assert own is maps.level3
    for ours, x in ((fourth, maps.level4), (fifth, maps.level5)):
        torch.testing.assert_close(ours, F.interpolate(x, (8, 12), mode="bilinear", align_corners=True))


@pytest.mark.parametrize("sizes", [SIZES, ROUNDED_DOWN])
def test_a_pooled_pixel_is_the_maximum_of_its_pixels_at_the_finer_level(
    sizes: list[tuple[int, int]],
) -> None:
    maps = random_pyramid(sizes)
    pooled = resize_to_level(4, maps)[0]
    for y, x in [(0, 0), (sizes[3][0] - 1, sizes[3][1] - 1)]:
        window = maps.level1[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        torch.testing.assert_close(pooled[:, :, y, x], window.amax((2, 3)))


def test_every_level_depends_on_all_five_levels() -> None:
    torch.manual_seed(0)
    decoder = UNet3PlusDecoder(CHANNELS, source_channels=8).eval()
    maps = random_pyramid(EVEN)
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
