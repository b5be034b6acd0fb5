"""The enhanced decoder: its connections, with weights for which the output is known."""

import torch

from mnsa.model.decoder import EnhancedDecoder, side_logits
from mnsa.model.enhancer import EnhancedFeatures
from mnsa.model.ops.concat_conv import ConcatConv2d
from mnsa.model.ops.upsample_conv import resize
from mnsa.structures import FeaturePyramid

SIZES = [(17, 11), (9, 6), (5, 3), (3, 2), (2, 1)]  # of an image of 33 x 21 px


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
