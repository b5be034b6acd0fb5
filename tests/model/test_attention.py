"""Spatial attention, against its formula written out pixel by pixel."""

import torch

from mnsa.model.attention import SpatialAttention


def test_mean_max_attention_is_the_formula_of_the_method() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 6, 3, 4)
    module = SpatialAttention("mean_max")
    assert module.score is not None
    w_mean, w_max = module.score.weight.flatten().tolist()
    attended, attention = module(features)
    assert attention is not None
    for b, y, x in [(0, 0, 0), (1, 2, 3)]:
        pixel = features[b, :, y, x]
        a = torch.sigmoid(w_mean * pixel.mean() + w_max * pixel.max())
        torch.testing.assert_close(attention[b, 0, y, x], a)
        torch.testing.assert_close(attended[b, :, y, x], 0.5 * pixel + 0.5 * a * pixel)


def test_mean_attention_has_no_weights() -> None:
    features = torch.randn(2, 6, 3, 4)
    module = SpatialAttention("mean")
    attended, attention = module(features)
    assert list(module.parameters()) == []
    torch.testing.assert_close(attention, features.mean(dim=1, keepdim=True).sigmoid())
    torch.testing.assert_close(attended, features * (1 + attention) / 2)


def test_no_attention_leaves_the_features_alone() -> None:
    features = torch.randn(2, 6, 3, 4)
    attended, attention = SpatialAttention("none")(features)
    assert attended is features
    assert attention is None
