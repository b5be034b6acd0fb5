"""Fusing BatchNorms changes no output."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.config import ModelConfig
from mnsa.model.network import Network, build_network
from mnsa.model.ops.fuse_bn import conv_norm_reference, find_conv_norm_pairs, fuse_batch_norms, fused_weights
from narrowing import some

pytestmark = pytest.mark.slow


BACKBONES = ["tf_efficientnet_lite0", "resnet18", "mobilenet_v3_large", "densenet121", "vgg19", "convnext_atto"]


def make_network(backbone: str, **model: Any) -> Network:
    torch.manual_seed(0)
    built = build_network(ModelConfig(backbone=backbone, pretrained="none", **model), classes=3, mask_classes=2)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: no norm is the identity
            for values in (some(module.running_mean), module.bias):
                nn.init.normal_(values, std=0.1)
            for values in (some(module.running_var), module.weight):
                nn.init.uniform_(values, 0.5, 2)
    return built.eval()


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_fused_weights_equal_the_reference_and_its_gradient(*, bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, bias=bias).double()
    norm = nn.BatchNorm2d(4, affine=affine).double()
    for _ in range(3):
        norm(2 + 3 * torch.randn(8, 4, 5, 5, dtype=torch.float64))  # moves the running statistics
    norm.eval()
    features = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    fused, expected = F.conv2d(features, *fused_weights(conv, norm)), conv_norm_reference(features, conv, norm)
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), features) for out in (fused, expected)))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_fused_network_gives_the_same_outputs(backbone: str) -> None:
    # in float64: these norms don't fit their maps, so the rounding of float32 grows from layer to layer
    network, images = make_network(backbone).double(), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        before = network(images)
    fuse_batch_norms(network)
    with torch.inference_mode():
        after = network(images)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(a.std()))


def test_an_efficientnet_and_the_decoder_keep_no_norm() -> None:
    network = make_network("tf_efficientnet_lite0")
    fuse_batch_norms(network)
    assert count_norms(network) == 0


def test_norms_before_a_convolution_stay_in_a_densenet() -> None:
    network = make_network("densenet121")
    before = count_norms(network.backbone)
    fuse_batch_norms(network)
    assert 0 < count_norms(network.backbone) < before


def test_weights_keep_their_memory_format() -> None:
    network = make_network("resnet18")
    before = {name: weight.stride() for name, weight in network.named_parameters() if weight.dim() == 4}
    fuse_batch_norms(network)
    assert all(network.get_parameter(name).stride() == stride for name, stride in before.items())


class Shared(nn.Module):
    """A convolution whose output goes to a BatchNorm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        convolved = self.conv(images)
        return (convolved + self.norm(convolved),)


class Twice(Shared):
    """A convolution that is used twice."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.norm(self.conv(images)), self.conv(images + 1)


@pytest.mark.parametrize("kind", [Shared, Twice])
def test_a_convolution_with_other_readers_is_not_fused(kind: type[Shared]) -> None:
    assert find_conv_norm_pairs(kind().eval()) == []


def test_finding_pairs_changes_nothing() -> None:
    network = make_network("resnet18")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    find_conv_norm_pairs(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
