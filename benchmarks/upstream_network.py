"""The upstream network as its authors' code computes it, in plain PyTorch: the slow side of the network benchmarks.

Claim: none; `network_speed.py`, `memory.py` and `profile_step.py` compare mnsa with it. It is written from the
published description alone and shares with mnsa only the backbone's extractor: two backbone passes per forward,
torchvision's deformable convolution, concatenated maps, float32, autograd as plain PyTorch records it.
Test: tests/benchmarks/test_upstream_network.py compares it with the upstream code's numbers and with mnsa's network.

The modules bear the names of the upstream checkpoints, misspelt ones too, so that `checkpoint()` is one of them.
B batch; H, W image size in pixels; K classes; level l = 1..5 has C_l channels, D_l details, S_l skips and O_l outputs.
"""

from collections.abc import Sequence
from math import floor
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torchvision.ops import DeformConv2d

from mnsa.model.backbone import Backbone

WIDTHS = (1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8)  # deform3, deform5, atrous2, atrous3, context
SKIP_RATIO = 0.25
OFFSET_CHANNELS = 64
LEVELS = ("1", "2", "3", "4", "5")


class Answers(NamedTuple):
    """What a forward pass returns: class_logits (B, K), mask_logits (B, 1, H/2, W/2), the decoder's outputs 1..5.

    Output 1 is (B, O_1, H/2, W/2); output l > 1 is upsampled already: (B, O_l, H/2^(l-1), W/2^(l-1)).
    """

    class_logits: Tensor
    mask_logits: Tensor
    outputs: tuple[Tensor, ...]


class UpstreamNetwork(nn.Module):
    """The whole network for one mask class, on a timm backbone with strides 2..32 (densenet161, resnet18)."""

    def __init__(
        self, backbone: str, classes: int, widths: Sequence[float] = WIDTHS, skip_ratio: float = SKIP_RATIO
    ) -> None:
        super().__init__()
        self.features = Backbone(backbone)
        self.last_activation = nn.ReLU() if self.features.family == "densenet" else nn.Identity()
        channels = self.features.channels
        self.attention = nn.Conv2d(2, 1, kernel_size=1, bias=False)
        self.classifier = nn.Linear(channels[-1], classes)
        w3, w5, a2, a3, wc = ([floor(width * c) for c in channels] for width in widths)
        details = [sum(row) for row in zip(w3, w5, a2, a3, wc, strict=True)]
        skips = [max(1, floor(skip_ratio * d)) for d in details]
        self.deconv_layers_3 = per_level([DeformBranch(c, o, 3) for c, o in zip(channels, w3, strict=True)])
        self.deconv_layers_5 = per_level([DeformBranch(c, o, 5) for c, o in zip(channels, w5, strict=True)])
        self.atrous_conv_layers_2 = per_level([atrous(c, o, 2) for c, o in zip(channels, a2, strict=True)])
        self.atrous_conv_layers_3 = per_level([atrous(c, o, 3) for c, o in zip(channels, a3, strict=True)])
        self.max_min_expan_layers = per_level([nn.Conv2d(2, o, kernel_size=1) for o in wc])
        self.tranformers = per_level([nn.Conv2d(d, s, kernel_size=1) for d, s in zip(details, skips, strict=True)])
        enhanced = [c + d for c, d in zip(channels, details, strict=True)]
        self.center = conv3x3(enhanced[-1], channels[-1])
        self.center2 = conv3x3(channels[-1], channels[-1])
        outputs = (channels[0], *channels[:-1])
        from_below = (*outputs[1:], channels[-1])
        self.decoder_layers = per_level(
            [
                DecoderLevel(e + x, s, o, is_last=level == "1")
                for level, e, x, s, o in zip(LEVELS, enhanced, from_below, skips, outputs, strict=True)
            ]
        )

    def forward(self, images: Tensor) -> Answers:
        """Images (B, 3, H, W), H and W multiples of 32 -> Answers."""
        outputs = self.segment(self.features(images))  # the first backbone pass, for the decoder
        return Answers(self.classify(self.features(images)[-1]), outputs[0], outputs[1:])  # the second

    def classify(self, features: Tensor) -> Tensor:
        """F_5 (B, C_5, H/32, W/32) -> class_logits (B, K)."""
        attention = self.attention(mean_and_max(features)).sigmoid()
        attended = 0.5 * features + 0.5 * (attention * features)
        pooled = F.adaptive_avg_pool2d(self.last_activation(attended), 1).flatten(1)
        class_logits: Tensor = self.classifier(pooled)
        return class_logits

    def segment(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """F_1..F_5 -> mask_logits, then the decoder's outputs at levels 1..5."""
        details = [self.enhance(level, features) for level, features in zip(LEVELS, pyramid, strict=True)]
        enhanced = [torch.cat((features, d), dim=1) for features, d in zip(pyramid, details, strict=True)]
        skips = [self.tranformers[level](d) for level, d in zip(LEVELS, details, strict=True)]
        below, outputs = self.center2(self.center(enhanced[-1])), []
        for level, features, skip in reversed(list(zip(LEVELS, enhanced, skips, strict=True))):
            below, mask_logits = self.decoder_layers[level](torch.cat((features, below), dim=1), skip)
            outputs.append(below)
        return mask_logits, *reversed(outputs)

    def enhance(self, level: str, features: Tensor) -> Tensor:
        """F_l (B, C_l, H_l, W_l) -> D_l (B, D_l, H_l, W_l)."""
        convolved = (self.deconv_layers_3, self.deconv_layers_5, self.atrous_conv_layers_2, self.atrous_conv_layers_3)
        context = self.max_min_expan_layers[level](mean_and_max(features))
        return torch.cat([*(branch[level](features) for branch in convolved), context], dim=1)

    def checkpoint(self) -> dict[str, Tensor]:
        """The state dict under the upstream names, without the tensors that stand there twice."""
        return {_upstream_name(key): value for key, value in self.state_dict().items()}

    def load_checkpoint(self, state: dict[str, Tensor]) -> None:
        """Take over a state dict under the upstream names, without copying it."""
        ours = {_flat(_upstream_name(key)): key for key in self.state_dict()}
        self.load_state_dict({ours[_flat(key)]: value for key, value in state.items()}, assign=True)


class DeformBranch(nn.Module):
    """torchvision's deformable convolution and the two 1x1 convolutions that predict its offsets."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.offset_generator = nn.Sequential(
            nn.Conv2d(in_channels, OFFSET_CHANNELS, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(OFFSET_CHANNELS, 2 * kernel_size**2, kernel_size=1),
        )
        self.deform_conv = DeformConv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> (B, O, h, w)."""
        sampled: Tensor = self.deform_conv(features, self.offset_generator(features))
        return sampled


class DecoderLevel(nn.Module):
    """Two blocks of convolution, BatchNorm and ReLU; then upsampling, or at level 1 the mask's convolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, is_last: bool) -> None:
        super().__init__()
        first, second = (
            conv_bn_relu(in_channels, out_channels),
            conv_bn_relu(out_channels + skip_channels, out_channels),
        )
        self.layers = nn.ModuleDict({"1": nn.Sequential(*first), "2": nn.Sequential(*second)})
        self.is_last = is_last
        if is_last:
            self.layers["2"].append(conv3x3(out_channels, 1))
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, features: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        """[E_l ; X] (B, C_l + D_l + X, h, w) and S_l -> the level's output, and mask_logits at level 1."""
        features_and_skip = torch.cat((self.layers["1"](features), skip), dim=1)
        if not self.is_last:
            return self.upsample(self.layers["2"](features_and_skip)), None
        output = self.layers["2"][:3](features_and_skip)
        return output, self.layers["2"][3](output)


class Trainee(NamedTuple):
    """The network in its second training stage: enhancer and decoder are trained by SGD, the rest is frozen."""

    network: UpstreamNetwork
    optimizer: SGD

    def step(self, images: Tensor, masks: Tensor) -> None:
        """One training step on images (B, 3, H, W) and masks (B, H, W) of 0 and 1."""
        self.optimizer.zero_grad()
        mask_logits = self.network(images).mask_logits
        shrunk = F.interpolate(masks[:, None].float(), mask_logits.shape[-2:], mode="bilinear")
        F.binary_cross_entropy_with_logits(mask_logits, (shrunk > 0).float()).backward()
        self.optimizer.step()


def second_stage(network: UpstreamNetwork) -> Trainee:
    """Freeze backbone, attention and classifier, their BatchNorm in eval mode; no part runs without autograd."""
    network.train()
    for frozen in (network.features, network.attention, network.classifier):
        frozen.requires_grad_(False).eval()
    trainable = [p for p in network.parameters() if p.requires_grad]
    return Trainee(network, SGD(trainable, lr=0.05, momentum=0.9, weight_decay=5e-4))


def mean_and_max(features: Tensor) -> Tensor:
    """Mean and maximum over channels. (B, C, h, w) -> (B, 2, h, w)."""
    return torch.cat((features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)), dim=1)


def atrous(in_channels: int, out_channels: int, dilation: int) -> nn.Conv2d:
    """Make a dilated 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=dilation, dilation=dilation)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Make a 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Make a block of conv3x3, BatchNorm and ReLU."""
    return nn.Sequential(conv3x3(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def per_level(modules: Sequence[nn.Module]) -> nn.ModuleDict:
    """Name five modules 1..5."""
    return nn.ModuleDict(dict(zip(LEVELS, modules, strict=True)))


def _upstream_name(key: str) -> str:
    return key.replace("features.net.features_", "features.features.").replace("features.net.", "features.")


def _flat(name: str) -> str:
    return name.replace(".", "_")  # timm moves modules when it flattens a model
