"""Enhanced U-Net decoder: from the deepest level up, each level sees its enhanced features and what came from below.

At the end what all decoders share: their blocks, and the side logits of deep supervision.

B batch; level l of the pyramid is (B, C_l, H_l, W_l); D_l, S_l channels of the enhancer's details and skip; O_l output
channels. Source: method section 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.model.enhancer import Enhanced
from mnsa.records import Pyramid


class EnhancedDecoder(nn.Module):
    """Bridge X = conv(conv(E_5)), then for l = 5..1: Y = block([E_l ; X]), Z_l = block([Y ; S_l]), X = up(Z_l).

    E_l = [F_l ; D_l]. No norm or activation stands between the two convolutions of the bridge.
    """

    def __init__(
        self,
        channels: Sequence[int],
        detail_channels: Sequence[int],
        skip_channels: Sequence[int],
        bridge_channels: int,
        out_channels: Sequence[int],
    ) -> None:
        super().__init__()
        enhanced = [c + d for c, d in zip(channels, detail_channels, strict=True)]
        from_below = (*out_channels[1:], bridge_channels)
        self.out_channels = tuple(out_channels)
        self.bridge = nn.Sequential(conv3x3(enhanced[-1], bridge_channels), conv3x3(bridge_channels, bridge_channels))
        self.levels = nn.ModuleList(
            DecoderLevel(e + x, s, o)
            for e, x, s, o in zip(enhanced, from_below, skip_channels, out_channels, strict=True)
        )

    def forward(self, pyramid: Pyramid, enhanced: Sequence[Enhanced]) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, O_l, H_l, W_l)."""
        outputs: list[Tensor] = []
        below = self.bridge(torch.cat((pyramid.level5, enhanced[-1].details), dim=1))
        for level, features, (details, skip) in reversed(list(zip(self.levels, pyramid, enhanced, strict=True))):
            x = resize(below, features.shape[-2:])
            below = level(torch.cat((features, details, x), dim=1), skip)
            outputs.append(below)
        return tuple(reversed(outputs))


class DecoderLevel(nn.Module):
    """Two blocks; the second also sees the skip."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = conv_bn_relu(in_channels, out_channels)
        self.refine = conv_bn_relu(out_channels + skip_channels, out_channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Features (B, C_l + D_l + X, H_l, W_l) and skip (B, S_l, H_l, W_l) -> Z_l (B, O_l, H_l, W_l)."""
        refined: Tensor = self.refine(torch.cat((self.mix(features), skip), dim=1))
        return refined


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Make a 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make a block of conv3x3, BatchNorm and ReLU."""
    return nn.Sequential(conv3x3(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize x (B, C, h, w) to `size` (H, W): bilinear, corners aligned."""
    # An exporter would fix for all sizes what its example shows, so it always resizes: to the same size, nothing.
    fits = not torch.compiler.is_exporting() and x.shape[-2:] == size
    return x if fits else F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def side_logits(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Outputs Z_1..Z_5 -> for levels l = 2..5 the channel mean of Z_l at the size of level l - 1, (B, 1, H_l-1, W_l-1).

    Source: method section 1, deep supervision.
    """
    # The mean first: it commutes with the resizing, which then has one channel to do instead of O_l.
    means = [output.mean(dim=1, keepdim=True) for output in outputs[1:]]
    return tuple(resize(mean, above.shape[-2:]) for mean, above in zip(means, outputs[:-1], strict=True))
