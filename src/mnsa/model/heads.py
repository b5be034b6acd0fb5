"""Spatial attention, the class head, the mask heads, and masks from their logits.

B batch; C channels; K classes; M mask classes; O_1 channels of the decoder's first level; h, w size of the deepest
level; H, W image size in pixels.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.model.decoder import ConvBlock
from mnsa.model.enhancer import mean_and_max
from mnsa.model.ops.concat_conv import ConcatConv2d

_FULL_HEAD_CHANNELS = 32

_STRIP_PX = 2**22  # pixels of a strip: the logits of a whole scan would need hundreds of megabytes per mask class

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


class ClassHead(nn.Module):
    """Linear(Dropout(GAP(activation(F')))). The activation is ReLU for DenseNet only. Source: method section 1."""

    def __init__(self, channels: int, classes: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(channels, classes)  # boosted trees can replace it

    def forward(self, features: Tensor) -> Tensor:
        """F' (B, C_5, h, w) -> class_logits (B, K)."""
        class_logits: Tensor = self.classifier(self.dropout(self.pool(features)))
        return class_logits

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """Compute the classifier's input GAP(activation(F')) from F' (B, C_5, h, w): (B, C_5).

        weights: weight of each cell in the mean, (1, 1, h, w); None: equal weights.
        """
        activated: Tensor = self.activation(features)
        if weights is None:
            return activated.mean(dim=(2, 3))
        return (activated * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))


class HalfMaskHead(nn.Module):
    """The paper's head: mask logits at half the image's resolution."""

    def __init__(self, channels: int, mask_classes: int) -> None:
        super().__init__()
        self.conv = ConcatConv2d(channels, mask_classes)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:  # noqa: ARG002 - the full head reads the images
        """Z_1 (B, O_1, H/2, W/2) -> mask_logits (B, M, H/2, W/2)."""
        mask_logits: Tensor = self.conv(features)
        return mask_logits


class FullMaskHead(nn.Module):
    """Mask logits at the image's resolution, at the cost of three half-resolution convolutions.

    The image itself is an input too, as four half-resolution phases, so that borders and lines of one pixel follow its
    pixels. Two blocks: with one, lines break (benchmarks/RESULTS.md, "Masks that hold together"). Source: Shi et al.
    2016, Real-Time Single Image and Video Super-Resolution, section 2.2 (sub-pixel convolution).
    """

    def __init__(self, channels: int, mask_classes: int) -> None:
        super().__init__()
        hidden = max(channels, _FULL_HEAD_CHANNELS)
        self.mix = ConvBlock(channels + 12, hidden)
        self.refine = ConvBlock(hidden, hidden)
        self.conv = ConcatConv2d(hidden, 4 * mask_classes)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Z_1 (B, O_1, H/2, W/2) and images (B, 3, H, W) -> mask_logits (B, M, H, W)."""
        phases = F.pixel_unshuffle(images, 2)  # (B, 12, H/2, W/2)
        return F.pixel_shuffle(self.conv(self.refine(self.mix(features, phases))), 2)


MaskHead = HalfMaskHead | FullMaskHead


def mask_from_logits(mask_logits: Tensor) -> Tensor:
    """Return each pixel's most probable class. mask_logits (B, M, H, W) -> uint8 (B, H, W); M = 1: the sign decides."""
    if mask_logits.shape[1] == 1:
        return (mask_logits[:, 0] > 0).to(torch.uint8)
    return mask_logits.argmax(dim=1).to(torch.uint8)


def full_size_masks(mask_logits: Tensor, images: Tensor) -> Tensor:
    """Decide on every pixel of images (B, 3, H, W) by mask_logits (B, M, h, w): class indices uint8 (B, H, W)."""
    return mask_from_logits(F.interpolate(mask_logits.float(), images.shape[-2:], mode="bilinear"))


def resize_and_decide(mask_logits: Tensor, size: tuple[int, int], decide: Callable[[Tensor], Tensor]) -> Tensor:
    """Resize logits (M, h, w) to (H, W), bilinearly, and decide on each pixel: uint8 (D, H, W), on the CPU.

    decide: makes D maps uint8 (D, n, W) of logits (M, n, W), each pixel by itself.
    The result equals that of resizing all at once; it is computed strip by strip to need less memory.
    """
    if mask_logits.shape[-2:] == size:
        return decide(mask_logits).cpu()
    height, width = size
    step = max(1, _STRIP_PX // width)
    strips = (slice(top, min(top + step, height)) for top in range(0, height, step))
    first = decide(_resize_rows(mask_logits, size, next(strips))).cpu()
    maps = torch.empty((len(first), *size), dtype=torch.uint8)
    maps[:, : first.shape[1]] = first
    for rows in strips:
        maps[:, rows] = decide(_resize_rows(mask_logits, size, rows)).cpu()
    return maps


def _resize_rows(maps: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """Compute some rows of maps (M, h, w) resized to `size`: (M, rows, W)."""
    ratio = maps.shape[-2] / size[0]
    positions = ((torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp(0)
    upper = positions.long().clamp(max=maps.shape[-2] - 1)
    lower = (upper + 1).clamp(max=maps.shape[-2] - 1)
    weight = (positions - upper).to(maps)[:, None]
    first = int(upper[0])
    needed = maps[:, first : int(lower[-1]) + 1]
    wide = F.interpolate(needed[None], (needed.shape[-2], size[1]), mode="bilinear")[0]
    return wide[:, (upper - first).to(maps.device)] * (1 - weight) + wide[:, (lower - first).to(maps.device)] * weight
