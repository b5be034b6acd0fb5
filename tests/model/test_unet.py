"""The U-Net 3+ decoder: which maps a level sees, and how they come to its size."""

import pytest
import torch
from torch.nn import functional as F

from mnsa.model.unet3plus import UNet3PlusDecoder, at_level
from mnsa.records import Pyramid

CHANNELS = [3, 4, 5, 6, 7]
EVEN = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
ROUNDED_UP = [(17, 11), (9, 6), (5, 3), (3, 2), (2, 1)]  # of an image of 33 x 21 px
ROUNDED_DOWN = [(33, 35), (16, 17), (8, 8), (4, 4), (2, 2)]  # of 67 x 71 px: VGG drops the odd ones out


def pyramid(sizes: list[tuple[int, int]]) -> Pyramid:
    return Pyramid(*[torch.randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)])


@pytest.mark.parametrize("sizes", [EVEN, ROUNDED_UP, ROUNDED_DOWN])
def test_each_level_answers_at_its_own_size_whatever_the_parity(sizes: list[tuple[int, int]]) -> None:
    decoder = UNet3PlusDecoder(CHANNELS, source_channels=2)
    levels = decoder(pyramid(sizes))
    assert decoder.out_channels == (10, 10, 10, 10, 7)
    assert [tuple(z.shape[1:]) for z in levels] == [
        (o, *size) for o, size in zip(decoder.out_channels, sizes, strict=True)
    ]


def test_larger_maps_are_max_pooled_and_smaller_ones_are_interpolated() -> None:
    maps = pyramid(EVEN)
    first, second, own, fourth, fifth = at_level(3, maps)
    assert torch.equal(first, F.adaptive_max_pool2d(maps.level1, (8, 12)))
    assert torch.equal(second, F.adaptive_max_pool2d(maps.level2, (8, 12)))
    assert own is maps.level3
    for ours, x in ((fourth, maps.level4), (fifth, maps.level5)):
        torch.testing.assert_close(ours, F.interpolate(x, (8, 12), mode="bilinear", align_corners=True))


@pytest.mark.parametrize("sizes", [ROUNDED_UP, ROUNDED_DOWN])
def test_a_pooled_pixel_is_the_maximum_of_the_pixels_that_the_backbone_would_have_halved_to_it(
    sizes: list[tuple[int, int]],
) -> None:
    maps = pyramid(sizes)
    pooled = at_level(4, maps)[0]
    for y, x in [(0, 0), (sizes[3][0] - 1, sizes[3][1] - 1)]:
        window = maps.level1[:, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        torch.testing.assert_close(pooled[:, :, y, x], window.amax((2, 3)))


def test_every_level_sees_all_five() -> None:
    torch.manual_seed(0)
    decoder = UNet3PlusDecoder(CHANNELS, source_channels=8).eval()
    maps = pyramid(EVEN)
    before = decoder(maps)
    for level in range(5):
        changed = [x + 5.0 * (n == level) for n, x in enumerate(maps)]
        after = decoder(Pyramid(*changed))
        same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert same == [False, False, False, False, level < 4]  # level 5 hands on F_5 itself


def test_the_paper_width_has_the_size_that_its_blocks_add_up_to() -> None:
    channels = [96, 384, 768, 2112, 2208]
    decoder = UNet3PlusDecoder(channels, source_channels=64)
    sources = [(*channels[:level], *[320] * (4 - level), 2208) for level in (1, 2, 3, 4)]
    blocks = [9 * c * 64 + 3 * 64 for row in sources for c in row] + [9 * 320 * 320 + 3 * 320] * 4
    assert sum(p.numel() for p in decoder.parameters()) == sum(blocks)
