"""Folding BatchNorms changes no answer."""

import pytest
import torch
from torch import Tensor, nn

from mnsa.config import ModelConfig
from mnsa.model.network import Network, build_network
from mnsa.model.ops.fuse_bn import find_conv_norm_pairs, fuse_batch_norms

BACKBONES = ["tf_efficientnet_lite0", "resnet18", "mobilenet_v3_large", "densenet121", "vgg19", "convnext_atto"]


def network(backbone: str, **model: object) -> Network:
    torch.manual_seed(0)
    built = build_network(ModelConfig(backbone=backbone, pretrained="none", **model), classes=3, mask_classes=2)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: none of them does nothing
            for values in (module.running_mean, module.bias):
                nn.init.normal_(values, std=0.1)
            for values in (module.running_var, module.weight):
                nn.init.uniform_(values, 0.5, 2)
    return built.eval()


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_folded_network_gives_the_same_answers(backbone: str) -> None:
    # in float64: float32's rounding grows through norms that don't fit the maps they normalise
    whole, images = network(backbone).double(), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        before = whole(images)
    fuse_batch_norms(whole)
    with torch.inference_mode():
        after = whole(images)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(a.std()))


def test_efficientnets_and_our_own_blocks_keep_no_norm_at_all() -> None:
    whole = network("tf_efficientnet_lite0")
    fuse_batch_norms(whole)
    assert count_norms(whole) == 0


def test_densenets_norms_before_a_convolution_stay() -> None:
    whole = network("densenet121")
    before = count_norms(whole.backbone)
    fuse_batch_norms(whole)
    assert 0 < count_norms(whole.backbone) < before


def test_weights_stay_in_their_layout() -> None:
    whole = network("resnet18")
    before = {name: weight.stride() for name, weight in whole.named_parameters() if weight.dim() == 4}
    fuse_batch_norms(whole)
    assert all(whole.get_parameter(name).stride() == stride for name, stride in before.items())


class Shared(nn.Module):
    """A convolution whose output goes to a BatchNorm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        convolved = self.conv(images)
        return (convolved + self.norm(convolved),)


class Twice(Shared):
    """A convolution that is used twice."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(self.conv(images)), self.conv(images + 1)


@pytest.mark.parametrize("kind", [Shared, Twice])
def test_a_convolution_that_others_see_too_is_left_alone(kind: type[Shared]) -> None:
    assert find_conv_norm_pairs(kind().eval()) == []


def test_looking_for_pairs_changes_nothing() -> None:
    whole = network("resnet18")
    before = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    find_conv_norm_pairs(whole)
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
    assert all(parameter.grad is None for parameter in whole.parameters())
