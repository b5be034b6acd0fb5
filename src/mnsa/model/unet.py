"""U-Net 3+ decoder: every level sees all five, resized to its own size.

B batch; level l of the pyramid is (B, C_l, H_l, W_l); S channels that each source gives to a level.
Source: Huang et al. 2020, UNet 3+, section 2.1; method section 1 for S = 64.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.model.decoder import ConvBlock
from mnsa.model.upsampled import resize
from mnsa.records import Pyramid


class UNet3PlusDecoder(nn.Module):
    """For l = 4..1: Z_l = block([block(down(F_1)) ; ... ; block(F_l) ; block(up(Z_{l+1})) ; ... ; block(up(Z_5))]).

    Z_5 = F_5. The five inner blocks give S channels each, the outer one keeps all 5 S.
    """

    def __init__(self, channels: Sequence[int], source_channels: int) -> None:
        super().__init__()
        fused = len(channels) * source_channels
        self.out_channels = (*(fused for _ in channels[:-1]), channels[-1])
        self.levels = nn.ModuleList(
            FusedLevel((*channels[:level], *self.out_channels[level:]), source_channels)
            for level in range(1, len(channels))
        )

    def forward(self, pyramid: Pyramid) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, 5 S, H_l, W_l); Z_5 is F_5 itself."""
        maps = list(pyramid)
        for level, fuse in reversed(list(enumerate(self.levels, start=1))):
            maps[level - 1] = fuse(at_level(level, maps))
        return tuple(maps)


class FusedLevel(nn.Module):
    """Five maps of one size, brought to S channels each and mixed."""

    def __init__(self, in_channels: Sequence[int], source_channels: int) -> None:
        super().__init__()
        fused = len(in_channels) * source_channels
        self.sources = nn.ModuleList(ConvBlock(c, source_channels) for c in in_channels)
        self.mix = ConvBlock(fused, fused)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels, H_l, W_l) of levels 1..5 -> Z_l (B, 5 S, H_l, W_l)."""
        mixed: Tensor = self.mix(*(source(x) for source, x in zip(self.sources, maps, strict=True)))
        return mixed


def at_level(level: int, maps: Sequence[Tensor]) -> list[Tensor]:
    """Bring the maps of levels 1..5, (B, channels, H_k, W_k), to the size of `level`: larger ones are max-pooled."""
    height, width = maps[level - 1].shape[-2:]
    # Backbones round odd sizes up or down: the last row and column are pooled too, and cut where this level lacks them.
    pooled = [
        F.max_pool2d(x, 2 ** (level - k), ceil_mode=True)[..., :height, :width]
        for k, x in enumerate(maps[: level - 1], start=1)
    ]
    return [resize(x, (height, width)) for x in (*pooled, *maps[level - 1 :])]
