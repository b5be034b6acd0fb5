"""The plain U-Net decoder: its wiring and its size."""

import torch
from torch.nn import functional as F

from mnsa.model.decoder import EnhancedDecoder
from mnsa.model.enhancer import Enhanced
from mnsa.model.joined import JoinedConv2d
from mnsa.model.unet import UNetDecoder
from mnsa.records import Pyramid

SIZES = [(17, 11), (9, 6), (5, 3), (3, 2), (2, 1)]  # of an image of 33 x 21 px
CHANNELS, OUTPUTS = [3, 4, 5, 6, 7], [4, 5, 6, 7, 8]


def pyramid() -> Pyramid:
    return Pyramid(*[torch.randn(2, c, *size) for c, size in zip(CHANNELS, SIZES, strict=True)])


def test_each_level_answers_at_its_own_size_whatever_the_parity() -> None:
    decoder = UNetDecoder(CHANNELS, bridge_channels=9, out_channels=OUTPUTS)
    assert decoder.out_channels == tuple(OUTPUTS)
    assert [tuple(z.shape[1:]) for z in decoder(pyramid())] == [
        (o, *size) for o, size in zip(OUTPUTS, SIZES, strict=True)
    ]


def test_it_is_the_enhanced_decoder_that_is_given_nothing_more() -> None:
    torch.manual_seed(0)
    none = [0] * 5
    plain = UNetDecoder(CHANNELS, 9, OUTPUTS).eval()
    enhanced = EnhancedDecoder(CHANNELS, none, none, 9, OUTPUTS).eval()
    enhanced.load_state_dict(dict(zip(enhanced.state_dict(), plain.state_dict().values(), strict=True)))
    maps = pyramid()
    nothing = [Enhanced(torch.empty(2, 0, *size), torch.empty(2, 0, *size)) for size in SIZES]
    for ours, theirs in zip(plain(maps), enhanced(maps, nothing), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_bridge_is_two_bare_convolutions_of_the_deepest_level() -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(CHANNELS, bridge_channels=9, out_channels=OUTPUTS).eval()
    maps = pyramid()
    seen: list[torch.Tensor] = []
    decoder.levels[4].register_forward_pre_hook(lambda _, given: seen.append(torch.cat(given, dim=1)))
    decoder(maps)
    first, second = decoder.bridge
    assert [type(m) for m in decoder.bridge] == [JoinedConv2d, JoinedConv2d]
    bridge = F.conv2d(F.conv2d(maps.level5, first.weight, first.bias, padding=1), second.weight, second.bias, padding=1)
    torch.testing.assert_close(seen[0], torch.cat((maps.level5, bridge), dim=1))
