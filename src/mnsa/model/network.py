"""The network, `build_network`, which builds its parts from a config, and its cost, computed from shapes alone.

B batch; H, W image size; K classes; M mask classes; C_l, O_l channels of the pyramid's and the decoder's level l;
T taps of a deformable convolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mnsa.config import DECODERS, ModelConfig
from mnsa.errors import ModelError
from mnsa.model.backbone import Backbone
from mnsa.model.decoder import EnhancedDecoder, OwnDecoder, UNet3PlusDecoder, UNetDecoder, own_decoder, side_logits
from mnsa.model.enhancer import BranchWidths, Enhancer
from mnsa.model.heads import ClassHead, FullMaskHead, HalfMaskHead, MaskHead, SpatialAttention
from mnsa.model.weights import load_bundled_network, load_pretrained, set_memory_format
from mnsa.structures import FeaturePyramid, NetworkOutputs

STRIDE_PX = 32  # of level 5
MOBILENET_DROPOUT = 0.2  # method section 1
NO_CLASS_HEAD = "this network has no class head, so it can't classify. Train one on a data set with labels."
NO_DECODER = "this network has no decoder, so it can't segment. Train one on a data set with masks."
Decoder = EnhancedDecoder | UNetDecoder | UNet3PlusDecoder | OwnDecoder

BILINEAR_CORNERS = 4  # pixels that one bilinear sample mixes


class Network(nn.Module):
    """One backbone and the parts for two tasks, classification and segmentation. Parts of a missing task are None.

    Only the enhanced decoder has an enhancer.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        attention: SpatialAttention | None = None,
        class_head: ClassHead | None = None,
        enhancer: Enhancer | None = None,
        decoder: Decoder | None = None,
        mask_head: MaskHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention = attention
        self.class_head = class_head
        self.enhancer = enhancer
        self.decoder = decoder
        self.mask_head = mask_head

    def forward(self, images: Tensor) -> NetworkOutputs:
        """Normalized images (B, 3, H, W) -> class_logits (B, K), mask_logits (B, M, H, W), attention (B, 1, h, w).

        Any height and width: images are padded to multiples of 32, so h = ceil(H/32), w = ceil(W/32).
        """
        height, width = images.shape[-2:]
        images = pad_to_stride(images)
        pyramid = self.features(images)
        class_logits, attention = (None, None) if self.class_head is None else self.classify(pyramid)
        mask_logits = None if self.decoder is None else self.segment(pyramid, images)
        if mask_logits is not None:
            if mask_logits.shape[-1] != images.shape[-1]:
                mask_logits = F.interpolate(mask_logits, images.shape[-2:], mode="bilinear", align_corners=False)
            mask_logits = mask_logits[..., :height, :width]
        return NetworkOutputs(class_logits, mask_logits, attention)

    def features(self, images: Tensor) -> FeaturePyramid:
        """Run the backbone. Raises: ModelError unless both sides are multiples of 32 (see `pad_to_stride`)."""
        height, width = images.shape[-2:]
        if height % STRIDE_PX or width % STRIDE_PX:
            raise ModelError(
                f"images of {height} x {width} px: both sides must be multiples of {STRIDE_PX}. Pad the images first."
            )
        pyramid: FeaturePyramid = self.backbone(images)
        return pyramid

    def classify(self, pyramid: FeaturePyramid) -> tuple[Tensor, Tensor | None]:
        """Return class_logits (B, K) and attention (B, 1, H/32, W/32), or None for attention `none`."""
        if self.attention is None or self.class_head is None:
            raise ModelError(NO_CLASS_HEAD)
        attended, attention = self.attention(pyramid.level5)
        return self.class_head(attended), attention

    def pool(self, pyramid: FeaturePyramid) -> Tensor:
        """Return the classifier's input: F_5 weighted by attention, then pooled, (B, C_5)."""
        if self.attention is None or self.class_head is None:
            raise ModelError(NO_CLASS_HEAD)
        attended, _ = self.attention(pyramid.level5)
        return self.class_head.pool(attended)

    def decode(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the decoder's outputs at levels 1..5, (B, O_l, H/2^l, W/2^l). It reads F_5 without attention."""
        if self.decoder is None:
            raise ModelError(NO_DECODER)
        enhanced = () if self.enhancer is None else (self.enhancer(pyramid),)
        outputs: tuple[Tensor, ...] = self.decoder(pyramid, *enhanced)
        return outputs

    def segment(self, pyramid: FeaturePyramid, images: Tensor) -> Tensor:
        """Return mask_logits at the mask head's own resolution: (B, M, H, W), or (B, M, H/2, W/2) for the paper's."""
        if self.mask_head is None:
            raise ModelError(NO_DECODER)
        mask_logits: Tensor = self.mask_head(self.decode(pyramid)[0], images)
        return mask_logits

    def segment_with_side_logits(self, pyramid: FeaturePyramid, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return mask_logits as `segment` does, and the side logits of decoder levels 2..5, each (B, 1, h, w)."""
        if self.mask_head is None:
            raise ModelError(NO_DECODER)
        outputs = self.decode(pyramid)
        return self.mask_head(outputs[0], images), side_logits(outputs)

    def parts(self) -> Mapping[str, nn.Module]:
        """Return the existing parts by the names that training stages use. `decoder` includes the mask head."""
        decoder = None if self.decoder is None else nn.ModuleList(m for m in (self.decoder, self.mask_head) if m)
        parts = {
            "backbone": self.backbone,
            "attention": self.attention,
            "class_head": self.class_head,
            "enhancer": self.enhancer,
            "decoder": decoder,
        }
        return {name: part for name, part in parts.items() if part is not None}


def pad_to_stride(images: Tensor, value: int = 0) -> Tensor:
    """Pad images or masks (..., H, W) at the bottom and the right to sides that are multiples of 32.

    Every level then has exactly half the side of the level before, in every backbone. Normalized images are padded with
    zeros, as convolutions pad too.
    """
    height, width = images.shape[-2:]
    # rounded up without negative numbers, which ONNX divides with rounding towards zero
    bottom, right = ((side + STRIDE_PX - 1) // STRIDE_PX * STRIDE_PX - side for side in (height, width))
    return F.pad(images, (0, right, 0, bottom), value=value)


def build_network(config: ModelConfig, classes: int, mask_classes: int) -> Network:
    """Build the network of a config. 0 classes: no class head; 0 mask classes: no decoder; 1: a sigmoid mask.

    Raises: ModelError when the config can't be built or its pretrained weights can't be loaded.
    """
    if classes <= 0 and mask_classes <= 0:
        raise ModelError("a network needs a task, but the data set has neither classes nor masks.")
    backbone = Backbone(config.backbone)
    load_pretrained(backbone, config.pretrained)
    network = Network(backbone)
    if classes > 0:
        network.attention = SpatialAttention(config.attention)
        network.class_head = _class_head(config, backbone, classes)
    if mask_classes > 0:
        add_mask_parts(network, config, mask_classes)
    load_bundled_network(network, config.pretrained, backbone.timm_name)
    set_memory_format(network, torch.channels_last)  # convolutions are fastest in it
    return network


def add_mask_parts(network: Network, config: ModelConfig, mask_classes: int) -> None:
    """Give a network the enhancer, if the decoder has one, the decoder and the mask head of a config, all new."""
    channels = network.backbone.channels
    if config.decoder == "enhanced":
        widths = BranchWidths.from_ratios(config.widths)
        network.enhancer = Enhancer(channels, widths, config.skip_ratio, config.offset_channels)
    network.decoder = _decoder(config, channels, network.enhancer)
    head = FullMaskHead if config.mask_resolution == "full" else HalfMaskHead
    network.mask_head = head(network.decoder.out_channels[0], mask_classes)


def decoder_channels(config: ModelConfig, channels: Sequence[int]) -> tuple[int, ...]:
    """Return O_1..O_5 of a config for a pyramid of C_1..C_5 channels; `paper`: C_1, then C_{l-1} for level l."""
    return (channels[0], *channels[:-1]) if config.decoder_channels == "paper" else config.decoder_channels


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """parameters: number of weights. macs: multiply-adds for one image in eval mode."""

    parameters: int
    macs: int


@cache  # a second or so for a large network
def network_cost(config: ModelConfig, classes: int, mask_classes: int, size: tuple[int, int]) -> NetworkCost:
    """Compute the cost for one image of `size` (height, width). No weights are allocated.

    Counted are convolutions, matrix products, and four multiply-adds per bilinear sample; as usual, normalization,
    activations, pooling and resizing are not. Raises: ModelError when the config can't be built.
    """
    blank = config.model_copy(update={"pretrained": "none"})
    with torch.device("meta"):
        network = build_network(blank, classes, mask_classes).eval()
        image = torch.empty(1, 3, *size)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.grid_sampler_2d: _sampling_flops})
    with torch.no_grad(), counter:
        network(image)
    flops = counter.get_total_flops()  # two per multiply-add
    return NetworkCost(sum(p.numel() for p in network.parameters()), flops // 2)


def _class_head(config: ModelConfig, backbone: Backbone, classes: int) -> ClassHead:
    activation = nn.ReLU() if backbone.family == "densenet" else nn.Identity()
    dropout = max(config.dropout, MOBILENET_DROPOUT) if backbone.family == "mobilenet" else config.dropout
    return ClassHead(backbone.channels[-1], classes, activation, dropout)


def _decoder(config: ModelConfig, channels: Sequence[int], enhancer: Enhancer | None) -> Decoder:
    """Build the decoder. Bridge channels `paper`: C_5."""
    if config.decoder not in DECODERS:
        return own_decoder(config.decoder, channels)
    if config.decoder == "unet3plus":
        return UNet3PlusDecoder(channels, config.source_channels)
    bridge = channels[-1] if config.bridge_channels == "paper" else config.bridge_channels
    outputs = decoder_channels(config, channels)
    if enhancer is None:
        return UNetDecoder(channels, bridge, outputs)
    return EnhancedDecoder(channels, enhancer.channels, enhancer.skip_channels, bridge, outputs)


def _sampling_flops(values: Sequence[int], grid: Sequence[int], *_: Any, **__: Any) -> int:
    """Count the operations of sampling values (B*T, O, H, W) at grid (B*T, H, W, 2)."""
    samples = values[0] * values[1] * grid[1] * grid[2]
    return 2 * BILINEAR_CORNERS * samples
