"""What every network keeps to, whatever its backbone, attention and input size."""

import pytest
import torch

from mnsa.config import ModelConfig
from mnsa.model.network import Network, build_network
from mnsa.records import Outputs

BACKBONES = ["resnet18", "tf_efficientnet_lite0", "mobilenet_v3_large", "convnext_atto"]
SIZES = [(32, 33), (70, 45), (41, 64)]


def small_network(backbone: str, attention: str, mask_resolution: str) -> Network:
    config = ModelConfig(
        backbone=backbone,
        pretrained="none",
        attention=attention,
        mask_resolution=mask_resolution,
        widths=(0.1,) * 5,
        offset_channels=4,
        bridge_channels=8,
        decoder_channels=(6, 6, 8, 8, 8),
    )
    torch.manual_seed(0)
    return build_network(config, classes=3, mask_classes=2)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("attention", "mask_resolution"), [("none", "half"), ("mean", "full"), ("mean_max", "full")])
def test_outputs_have_the_images_size(backbone: str, attention: str, mask_resolution: str) -> None:
    network = small_network(backbone, attention, mask_resolution).eval()
    with torch.inference_mode():
        for height, width in SIZES:
            outputs = network(torch.randn(2, 3, height, width))
            assert outputs.class_logits.shape == (2, 3)
            assert outputs.mask_logits.shape == (2, 2, height, width)
            assert (outputs.attention is None) is (attention == "none")
            assert outputs.attention is None or 0 < outputs.attention.min() <= outputs.attention.max() < 1


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mask_resolution", ["half", "full"])
def test_every_parameter_learns(backbone: str, mask_resolution: str) -> None:
    network = small_network(backbone, "mean_max", mask_resolution).train()
    for parameter in network.parameters():
        if (
            not parameter.any()
        ):  # offsets and residual branches start at zero, which keeps gradients from what is before
            torch.nn.init.normal_(parameter, std=0.1)
    outputs: Outputs = network(torch.randn(2, 3, 70, 45))
    (outputs.class_logits.square().mean() + outputs.mask_logits.square().mean()).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A bias right before a BatchNorm is undone by it; rounding alone decides whether its gradient is zero.
    assert [name for name in idle if not name.endswith(".bias")] == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_memory_layout_changes_nothing(backbone: str) -> None:
    network = small_network(backbone, "mean_max", "full").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        plain = network(images)
        network.to(memory_format=torch.channels_last)
        channels_last = network(images.contiguous(memory_format=torch.channels_last))
    for a, b in zip(plain, channels_last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
