"""Plain U-Net decoder: the enhanced one without the enhancer's details and skips.

B batch; level l of the pyramid is (B, C_l, H_l, W_l); O_l output channels. Source: method section 1; Ronneberger et al.
2015, U-Net, figure 1, for the design.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mnsa.model.decoder import ConvBlock
from mnsa.model.joined import JoinedConv2d
from mnsa.records import Pyramid


class UNetDecoder(nn.Module):
    """Bridge X = conv(conv(F_5)), then for l = 5..1: Z_l = block(block([F_l ; X])), X = up(Z_l)."""

    def __init__(self, channels: Sequence[int], bridge_channels: int, out_channels: Sequence[int]) -> None:
        super().__init__()
        from_below = (*out_channels[1:], bridge_channels)
        self.out_channels = tuple(out_channels)
        self.bridge = nn.Sequential(
            JoinedConv2d(channels[-1], bridge_channels), JoinedConv2d(bridge_channels, bridge_channels)
        )
        self.levels = nn.ModuleList(
            UNetLevel(c + x, o) for c, x, o in zip(channels, from_below, out_channels, strict=True)
        )

    def forward(self, pyramid: Pyramid) -> tuple[Tensor, ...]:
        """Return the outputs Z_1..Z_5 of the five levels, Z_l (B, O_l, H_l, W_l)."""
        outputs: list[Tensor] = []
        below = self.bridge(pyramid.level5)
        for level, features in reversed(list(zip(self.levels, pyramid, strict=True))):
            below = level(features, below)
            outputs.append(below)
        return tuple(reversed(outputs))


class UNetLevel(nn.ModuleList):
    """Two blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__((ConvBlock(in_channels, out_channels), ConvBlock(out_channels, out_channels)))

    def forward(self, features: Tensor, below: Tensor) -> Tensor:
        """F_l (B, C_l, H_l, W_l), and Z_l+1 or the bridge's X -> Z_l (B, O_l, H_l, W_l)."""
        mix, refine = self
        refined: Tensor = refine(mix(features, below=below))
        return refined
