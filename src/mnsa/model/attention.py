"""Spatial attention on the deepest level: where on the leaf the class is to be seen.

B batch; C channels; h, w size of the deepest level.
"""

from typing import Literal

import torch
from torch import Tensor, nn

AttentionKind = Literal["none", "mean", "mean_max"]


class SpatialAttention(nn.Module):
    """F' = 0.5 F + 0.5 (A * F), with A = sigmoid of a score of F's channels; kind `none`: F' = F.

    `mean` scores by the mean over channels, `mean_max` by a learned sum of their mean and maximum.
    Source: method section 1; Woo et al. 2018, CBAM, section 3, for the descriptors.
    """

    def __init__(self, kind: AttentionKind) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Conv2d(2, 1, kernel_size=1, bias=False) if kind == "mean_max" else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, C, h, w) -> F' (B, C, h, w) and A (B, 1, h, w) in 0..1, or None for kind `none`."""
        if self.kind == "none":
            return features, None
        scores = features.mean(dim=1, keepdim=True) if self.score is None else self.score(mean_and_max(features))
        attention = scores.sigmoid()
        return 0.5 * features + 0.5 * (attention * features), attention


def mean_and_max(features: Tensor) -> Tensor:
    """Mean and maximum over channels. (B, C, H, W) -> (B, 2, H, W)."""
    return torch.cat((features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)), dim=1)
