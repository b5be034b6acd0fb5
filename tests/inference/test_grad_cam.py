"""Grad-CAM against its closed form: with a linear map after the mean, it is the class activation map (Zhou et al.)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnsa.errors import ModelError
from mnsa.inference.grad_cam import grad_cam
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder


@pytest.fixture
def network(finished: RunFolder) -> Any:
    return load_network(finished.path)[0]


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def class_features(network: Any, images: Tensor) -> Tensor:
    """F', the input of the class head."""
    with torch.no_grad():
        features: Tensor = network.attention(network.features(images).level5)[0]
    return features


def test_it_is_the_class_activation_map_where_a_linear_map_follows_the_mean(network: Any, images: Tensor) -> None:
    classes = torch.tensor([0, 2, 1])
    features = class_features(network, images)  # (B, C, h, w)
    weights = network.class_head.classifier.weight[classes] / features[0, 0].numel()
    expected = torch.einsum("bc,bchw->bhw", weights, features).relu()
    found = grad_cam(network, images, classes)
    assert found.shape == (3, 2, 3)
    assert expected.max() > 0
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)


def test_before_a_relu_a_channel_is_weighted_by_the_fraction_of_its_positive_positions(
    network: Any, images: Tensor
) -> None:
    network.class_head.activation = nn.ReLU()
    features = class_features(network, images)
    passing = (features > 0).float().mean(dim=(2, 3))
    weights = network.class_head.classifier.weight[1] * passing / features[0, 0].numel()
    expected = torch.einsum("bc,bchw->bhw", weights, features).relu()
    torch.testing.assert_close(
        grad_cam(network, images, torch.ones(3, dtype=torch.long)), expected.detach(), rtol=1e-4, atol=1e-7
    )


def test_an_image_has_the_same_map_alone_and_in_a_batch_and_no_weight_gets_a_gradient(
    network: Any, images: Tensor
) -> None:
    classes = torch.tensor([0, 2, 1])
    together = grad_cam(network, images, classes)
    alone = torch.cat([grad_cam(network, images[n : n + 1], classes[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.inference_mode():  # as the predictor computes
        torch.testing.assert_close(grad_cam(network, images, classes), together)


def test_a_network_without_gradients_or_classes_is_an_error(network: Any, images: Tensor) -> None:
    network.class_head.classifier = nn.Identity()
    with pytest.raises(ModelError, match="boosted trees have none"):
        grad_cam(network, images, torch.zeros(3, dtype=torch.long))
    network.class_head = None
    with pytest.raises(ModelError, match="no class head"):
        grad_cam(network, images, torch.zeros(3, dtype=torch.long))
