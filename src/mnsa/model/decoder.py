"""Enhanced U-Net decoder: from the deepest level up, each level sees its enhanced features and what came from below.

At the end what all decoders share: their blocks, and the side logits of deep supervision.

B batch; level l of the pyramid is (B, C_l, H_l, W_l); D_l, S_l channels of the enhancer's details and skip; O_l output
channels. Source: method section 1.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mnsa.model.enhancer import EnhancedFeatures
from mnsa.model.ops.concat_conv import ConcatConv2d
from mnsa.model.ops.recompute import batch_norm_relu, can_recompute
from mnsa.model.ops.upsample_conv import resize
from mnsa.structures import FeaturePyramid


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
        from_coarse = (*out_channels[1:], bridge_channels)
        self.out_channels = tuple(out_channels)
        bridge = ConcatConv2d(enhanced[-1], bridge_channels), ConcatConv2d(bridge_channels, bridge_channels)
        self.bridge = nn.ModuleList(bridge)
        self.levels = nn.ModuleList(
            DecoderLevel(e + x, s, o)
            for e, x, s, o in zip(enhanced, from_coarse, skip_channels, out_channels, strict=True)
        )

    def forward(self, pyramid: FeaturePyramid, enhanced: Sequence[EnhancedFeatures]) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, O_l, H_l, W_l)."""
        outputs: list[Tensor] = []
        coarse = self.bridge[1](self.bridge[0](pyramid.level5, enhanced[-1].details))
        for level, features, (details, skip) in reversed(list(zip(self.levels, pyramid, enhanced, strict=True))):
            coarse = level((features, details), coarse, skip)
            outputs.append(coarse)
        return tuple(reversed(outputs))


class DecoderLevel(nn.Module):
    """Two blocks; the second also sees the skip."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = ConvBlock(in_channels, out_channels)
        self.refine = ConvBlock(out_channels + skip_channels, out_channels)

    def forward(self, maps: Sequence[Tensor], coarse: Tensor, skip: Tensor) -> Tensor:
        """F_l and D_l (B, channels, H_l, W_l), Z_l+1 or the bridge's X_6, S_l (B, S_l, H_l, W_l) -> Z_l, as high."""
        refined: Tensor = self.refine(self.mix(*maps, coarse=coarse), skip)
        return refined


class ConvBlock(nn.ModuleList):
    """A 3x3 convolution of joined maps, BatchNorm and ReLU. Maps (B, C_i, H, W), C in all -> (B, O, H, W).

    coarse: one more map, resized to the size of the others.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = ConcatConv2d(in_channels, out_channels)
        super().__init__((conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)))

    def forward(self, *maps: Tensor, coarse: Tensor | None = None) -> Tensor:
        """Maps (B, C_i, H, W) and perhaps one from below, C channels in all -> (B, O, H, W)."""
        conv, norm, relu = self
        joined: Tensor = conv(*maps, coarse=coarse)
        return batch_norm_relu(joined, norm) if norm.training and can_recompute(norm) else relu(norm(joined))


def side_logits(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Outputs Z_1..Z_5 -> for levels l = 2..5 the channel mean of Z_l at the size of level l - 1, (B, 1, H_l-1, W_l-1).

    Source: method section 1, deep supervision.
    """
    # The mean first: it commutes with the resizing, which then has one channel to do instead of O_l.
    means = [output.mean(dim=1, keepdim=True) for output in outputs[1:]]
    return tuple(resize(mean, above.shape[-2:]) for mean, above in zip(means, outputs[:-1], strict=True))
