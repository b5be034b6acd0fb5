"""Folding BatchNorms changes no answer, and leaves the network it was given alone."""

import pytest
import torch
from torch import nn

from mnsa.engines.fuse import fuse_batch_norms


def norms_of(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18", "convnext_atto"])
def test_a_fused_network_answers_as_the_network_does(make_network, backbone):
    network = make_network(backbone=backbone)
    before = norms_of(network)
    fused = fuse_batch_norms(network)
    images = torch.randn(2, 3, 45, 70)
    with torch.inference_mode():
        for mine, theirs in zip(network(images), fused(images), strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)
    assert before == norms_of(network) > norms_of(fused) == 0


def test_a_norm_that_reads_no_convolution_stays(make_network):
    network = make_network(backbone="densenet121", mask_classes=0)
    fused = fuse_batch_norms(network)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(fused(images).class_logits, network(images).class_logits, rtol=1e-4, atol=1e-5)
    layer = fused.backbone.net.features_denseblock1.denselayer2
    assert isinstance(layer.norm1, nn.BatchNorm2d)  # after a concatenation
    assert not isinstance(layer.norm2, nn.BatchNorm2d)  # after conv1


def test_nothing_of_a_fused_network_learns(make_network):
    assert not any(parameter.requires_grad for parameter in fuse_batch_norms(make_network()).parameters())
