"""Decoders: the enhanced U-Net, U-Net and U-Net 3+; their blocks, and the side logits of deep supervision.

From the deepest level up, each level of the enhanced U-Net reads its enhanced features and the coarser output.

B batch; level l of the pyramid is (B, C_l, H_l, W_l); D_l, S_l channels of the enhancer's details and skip; O_l output
channels; S channels of each source in a level of U-Net 3+.
Sources: method section 1; Ronneberger et al. 2015, U-Net, figure 1; Huang et al. 2020, UNet 3+, section 2.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.errors import ConfigError
from mnsa.model.enhancer import EnhancedFeatures
from mnsa.model.ops.concat_conv import ConcatConv2d, resize
from mnsa.model.ops.recompute import batch_norm_relu, can_recompute
from mnsa.own_parts import load_own_part
from mnsa.structures import FeaturePyramid


class EnhancedDecoder(nn.Module):
    """Bridge X = conv(conv(E_5)), then for l = 5..1: Y = block([E_l ; X]), Z_l = block([Y ; S_l]), X = up(Z_l).

    E_l = [F_l ; D_l]. There is no norm or activation between the two convolutions of the bridge.
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
    """Two blocks. The second also reads the skip."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = ConvBlock(in_channels, out_channels)
        self.refine = ConvBlock(out_channels + skip_channels, out_channels)

    def forward(self, maps: Sequence[Tensor], coarse: Tensor, skip: Tensor) -> Tensor:
        """F_l and D_l (B, channels, H_l, W_l), coarse Z_l+1 or the bridge's X, S_l (B, S_l, H_l, W_l) -> Z_l."""
        refined: Tensor = self.refine(self.mix(*maps, coarse=coarse), skip)
        return refined


class ConvBlock(nn.ModuleList):
    """A 3x3 convolution of concatenated maps, BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        conv = ConcatConv2d(in_channels, out_channels)
        super().__init__((conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)))

    def forward(self, *maps: Tensor, coarse: Tensor | None = None) -> Tensor:
        """Maps (B, C_i, H, W) and perhaps a coarse one, C channels in all -> (B, O, H, W)."""
        conv, norm, relu = self
        features: Tensor = conv(*maps, coarse=coarse)
        if torch.is_grad_enabled() and can_recompute(norm):
            return batch_norm_relu(features, norm)
        activated: Tensor = relu(norm(features))
        return activated


class UNetDecoder(nn.Module):
    """Bridge X = conv(conv(F_5)), then for l = 5..1: Z_l = block(block([F_l ; X])), X = up(Z_l)."""

    def __init__(self, channels: Sequence[int], bridge_channels: int, out_channels: Sequence[int]) -> None:
        super().__init__()
        from_coarse = (*out_channels[1:], bridge_channels)
        self.out_channels = tuple(out_channels)
        self.bridge = nn.Sequential(
            ConcatConv2d(channels[-1], bridge_channels), ConcatConv2d(bridge_channels, bridge_channels)
        )
        self.levels = nn.ModuleList(
            UNetLevel(c + x, o) for c, x, o in zip(channels, from_coarse, out_channels, strict=True)
        )

    def forward(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, O_l, H_l, W_l)."""
        outputs: list[Tensor] = []
        coarse = self.bridge(pyramid.level5)
        for level, features in reversed(list(zip(self.levels, pyramid, strict=True))):
            coarse = level(features, coarse)
            outputs.append(coarse)
        return tuple(reversed(outputs))


class UNetLevel(nn.ModuleList):
    """Two blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__((ConvBlock(in_channels, out_channels), ConvBlock(out_channels, out_channels)))

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """F_l (B, C_l, H_l, W_l), and Z_l+1 or the bridge's X -> Z_l (B, O_l, H_l, W_l)."""
        mix, refine = self
        refined: Tensor = refine(mix(features, coarse=coarse))
        return refined


class UNet3PlusDecoder(nn.Module):
    """For l = 4..1: Z_l = block([block(down(F_1)) ; ... ; block(F_l) ; block(up(Z_{l+1})) ; ... ; block(up(Z_5))]).

    Z_5 = F_5. The five inner blocks have S output channels each, the outer one 5 S.
    """

    def __init__(self, channels: Sequence[int], source_channels: int) -> None:
        super().__init__()
        fused = len(channels) * source_channels
        self.out_channels = (*(fused for _ in channels[:-1]), channels[-1])
        self.levels = nn.ModuleList(
            UNet3PlusLevel((*channels[:level], *self.out_channels[level:]), source_channels)
            for level in range(1, len(channels))
        )

    def forward(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, 5 S, H_l, W_l); Z_5 is F_5 itself."""
        maps = list(pyramid)
        for level, fuse in reversed(list(enumerate(self.levels, start=1))):
            maps[level - 1] = fuse(resize_to_level(level, maps))
        return tuple(maps)


class UNet3PlusLevel(nn.Module):
    """Five maps of one size, each reduced to S channels, then mixed."""

    def __init__(self, in_channels: Sequence[int], source_channels: int) -> None:
        super().__init__()
        fused = len(in_channels) * source_channels
        self.sources = nn.ModuleList(ConvBlock(c, source_channels) for c in in_channels)
        self.mix = ConvBlock(fused, fused)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels, H_l, W_l) of levels 1..5 -> Z_l (B, 5 S, H_l, W_l)."""
        mixed: Tensor = self.mix(*(source(x) for source, x in zip(self.sources, maps, strict=True)))
        return mixed


class OwnDecoder(nn.Module):
    """A decoder from another package: `mnsa.decoders`. part: computes Z_1..Z_5 from the pyramid."""

    def __init__(self, part: nn.Module, out_channels: Sequence[int]) -> None:
        super().__init__()
        self.part = part
        self.out_channels = tuple(out_channels)

    def forward(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, O_l, H_l, W_l)."""
        return tuple(self.part(pyramid))


def own_decoder(name: str, channels: Sequence[int]) -> OwnDecoder:
    """Build the decoder `name` of another package for a pyramid of C_1..C_5 channels. Raises: ConfigError."""
    part = load_own_part("decoders", name)(tuple(channels))
    out_channels = getattr(part, "out_channels", ())
    if not isinstance(part, nn.Module) or len(out_channels) != len(channels):
        raise ConfigError(
            f"The decoder {name!r} is no torch module with `out_channels`, the {len(channels)} numbers of channels of "
            "its outputs."
        )
    return OwnDecoder(part, out_channels)


def resize_to_level(level: int, maps: Sequence[Tensor]) -> list[Tensor]:
    """Resize the maps of levels 1..5, (B, channels, H_k, W_k), to the size of `level`. Larger ones are max-pooled."""
    height, width = maps[level - 1].shape[-2:]
    # A backbone may round odd sizes up or down. So the last row and column are pooled too, and cropped if not needed.
    pooled = [
        F.max_pool2d(x, 2 ** (level - k), ceil_mode=True)[..., :height, :width]
        for k, x in enumerate(maps[: level - 1], start=1)
    ]
    return [resize(x, (height, width)) for x in (*pooled, *maps[level - 1 :])]


def side_logits(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Compute from Z_1..Z_5 the channel mean of Z_l at the size of level l - 1, for l = 2..5: (B, 1, h, w) each.

    Source: method section 1, deep supervision.
    """
    # Mean and resizing can trade places. With the mean first, one channel is resized instead of O_l.
    means = [output.mean(dim=1, keepdim=True) for output in outputs[1:]]
    return tuple(resize(mean, finer.shape[-2:]) for mean, finer in zip(means, outputs[:-1], strict=True))
