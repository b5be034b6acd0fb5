"""Spatial attention equals its formula, computed pixel by pixel; class and mask heads."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnsa.model import heads
from mnsa.model.heads import ClassHead, FullMaskHead, HalfMaskHead, SpatialAttention, mask_from_logits
from narrowing import instance_of


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


def test_no_attention_keeps_the_features() -> None:
    features = torch.randn(2, 6, 3, 4)
    attended, attention = SpatialAttention("none")(features)
    assert attended is features
    assert attention is None


@pytest.mark.parametrize(("activation", "rectified"), [(nn.ReLU(), True), (nn.Identity(), False)])
def test_the_class_head_is_a_linear_map_of_the_mean(activation: nn.Module, rectified: bool) -> None:
    torch.manual_seed(0)
    head = ClassHead(6, 3, activation, dropout=0.0)
    features = torch.randn(2, 6, 4, 5)
    pooled = (features.clamp(min=0) if rectified else features).flatten(2).mean(-1)
    torch.testing.assert_close(head.pool(features), pooled)
    linear = instance_of(nn.Linear, head.classifier)
    torch.testing.assert_close(head(features), pooled @ linear.weight.T + linear.bias)


def test_dropout_is_applied_in_training_only() -> None:
    head = ClassHead(6, 3, nn.Identity(), dropout=0.5)
    features = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(head.eval()(features), head.eval()(features))
    torch.manual_seed(0)
    assert not torch.equal(head.train()(features), head.train()(features))


@pytest.mark.parametrize(("height", "width"), [(16, 12), (18, 32)])
def test_the_full_mask_head_has_the_size_of_the_image(height: int, width: int) -> None:
    features = torch.randn(2, 8, height // 2, width // 2)
    assert FullMaskHead(8, 3)(features, torch.randn(2, 3, height, width)).shape == (2, 3, height, width)


def test_the_half_mask_head_has_the_size_of_level_1() -> None:
    assert HalfMaskHead(8, 2)(torch.randn(2, 8, 6, 5), torch.randn(2, 3, 12, 10)).shape == (2, 2, 6, 5)


def test_the_full_mask_head_depends_on_single_pixels_of_the_image() -> None:
    torch.manual_seed(0)
    head = FullMaskHead(4, 1).eval()
    features, images = torch.zeros(1, 4, 10, 10), torch.zeros(1, 3, 20, 20)
    changed = images.clone()
    changed[..., 8, 8] = 10.0
    difference = (head(features, changed) - head(features, images)).abs()[0, 0]
    assert difference[8, 8] > 0
    assert difference[:2].max() == 0  # three 3x3 convolutions at half resolution read 7 pixels around
    assert difference[:, 16:].max() == 0


def test_a_single_mask_class_is_decided_by_the_sign() -> None:
    logits = torch.tensor([[[[-1.0, 0.0, 2.0]]]])
    assert mask_from_logits(logits).tolist() == [[[0, 0, 1]]]
    assert mask_from_logits(logits).dtype == torch.uint8


def test_several_mask_classes_are_decided_by_the_largest_logit() -> None:
    logits = torch.tensor([[3.0, 0.0], [1.0, 1.0], [2.0, 5.0]]).view(1, 3, 1, 2)
    assert mask_from_logits(logits).tolist() == [[[0, 2]]]


@pytest.mark.parametrize("size", [(97, 130), (400, 31), (20, 20), (64, 48), (1, 1)])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("strip_px", [1, 1_000, 2**22])
def test_a_mask_resized_in_strips_equals_the_mask_resized_at_once(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], classes: int, strip_px: int
) -> None:
    monkeypatch.setattr(heads, "_STRIP_PX", strip_px)
    # In float64 no pixel is so near to the border between two classes that rounding decides.
    logits = torch.randn(classes, 64, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = mask_from_logits(F.interpolate(logits[None], size, mode="bilinear"))[0]
    decided = heads.resize_and_decide(logits, size, lambda rows: mask_from_logits(rows[None]))
    assert torch.equal(decided, expected[None])
