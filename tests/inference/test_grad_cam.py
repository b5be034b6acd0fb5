"""Grad-CAM against its closed form: with a linear map after the mean, it is the class activation map (Zhou et al.)."""

import pytest
import torch
from torch import nn

from mnsa.errors import ModelError
from mnsa.inference.grad_cam import grad_cam
from mnsa.model_folder import load_network


@pytest.fixture
def network(finished):
    return load_network(finished.path)[0]


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def seen(network, images):
    """F', what the class head reads."""
    with torch.no_grad():
        return network.attention(network.features(images).level5)[0]


def test_it_is_the_class_activation_map_where_a_linear_map_follows_the_mean(network, images):
    classes = torch.tensor([0, 2, 1])
    features = seen(network, images)  # (B, C, h, w)
    weights = network.class_head.classifier.weight[classes] / features[0, 0].numel()
    expected = torch.einsum("bc,bchw->bhw", weights, features).relu()
    found = grad_cam(network, images, classes)
    assert found.shape == (3, 2, 3)
    assert expected.max() > 0
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)


def test_before_a_relu_each_channel_counts_by_the_share_of_its_positions_that_pass(network, images):
    network.class_head.activation = nn.ReLU()
    features = seen(network, images)
    passing = (features > 0).float().mean(dim=(2, 3))
    weights = network.class_head.classifier.weight[1] * passing / features[0, 0].numel()
    expected = torch.einsum("bc,bchw->bhw", weights, features).relu()
    torch.testing.assert_close(
        grad_cam(network, images, torch.ones(3, dtype=torch.long)), expected.detach(), rtol=1e-4, atol=1e-7
    )


def test_an_image_is_explained_alone_as_in_a_batch_and_no_weight_gets_a_gradient(network, images):
    classes = torch.tensor([0, 2, 1])
    together = grad_cam(network, images, classes)
    alone = torch.cat([grad_cam(network, images[n : n + 1], classes[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.inference_mode():  # as answers are computed
        torch.testing.assert_close(grad_cam(network, images, classes), together)


def test_what_has_no_gradient_or_no_classes_is_refused(network, images):
    network.class_head.classifier = nn.Identity()
    with pytest.raises(ModelError, match="boosted trees have none"):
        grad_cam(network, images, torch.zeros(3, dtype=torch.long))
    network.class_head = None
    with pytest.raises(ModelError, match="no class head"):
        grad_cam(network, images, torch.zeros(3, dtype=torch.long))
