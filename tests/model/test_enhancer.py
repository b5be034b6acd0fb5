"""Widths and the five branches; a slice of the widest enhancer equals the narrow enhancer."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from mnsa.errors import ModelError
from mnsa.model import enhancer as enhancing
from mnsa.model.enhancer import (
    BRANCHES,
    AdaptiveFeatureEnhancer,
    BranchWidths,
    ContextBranch,
    Enhancer,
    slice_weights,
)
from mnsa.model.ops.concat_conv import ConcatConv2d
from mnsa.structures import FeaturePyramid
from narrowing import instance_of

PAPER = (1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8)

CHANNELS = (8, 16, 16, 24, 32)
BRANCH_ENDS = {"deform3": 2, "deform5": 4, "atrous2": 6, "atrous3": 8, "context": 10}  # of level 1 at the widest
Ratios = Sequence[float] | Sequence[Sequence[float]]
NARROWER = [
    (1 / 4,) * 5,
    (1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8),
    (0.0, 1 / 8, 0.0, 1 / 16, 1 / 4),
    [(1 / 8, 0.0, 0.0, 0.0, 1 / 4), *[(0.0, 1 / 4, 1 / 8, 1 / 16, 0.0)] * 4],
]


def pyramid_of(channels: list[int]) -> FeaturePyramid:
    return FeaturePyramid(*[torch.randn(2, c, 64 >> level, 32 >> level) for level, c in enumerate(channels, start=1)])


@given(
    numerators=st.lists(st.integers(0, 100), min_size=5, max_size=5),
    level=st.integers(1, 5),
    in_channels=st.integers(1, 3000),
)
def test_channels_are_the_exact_floor_and_at_least_one(numerators: list[int], level: int, in_channels: int) -> None:
    channels = BranchWidths.from_ratios([n / 100 for n in numerators]).channels(level, in_channels)
    expected = [max(1, floor(Fraction(n, 100) * in_channels)) if n else 0 for n in numerators]
    assert list(channels) == expected


def test_widths_can_differ_from_level_to_level() -> None:
    rows = [[0.5, 0, 0, 0, 0], *[[0, 0, 0, 0, 0.25]] * 4]
    widths = BranchWidths.from_ratios(rows)
    assert widths.channels(1, 16) == (8, 0, 0, 0, 0)
    assert widths.channels(5, 16) == (0, 0, 0, 0, 4)


@pytest.mark.parametrize("ratios", [(0.1,) * 4, [(0.1,) * 5] * 4, [(0.1,) * 4] * 5, (0.1, 0.1, 0.1, 0.1, (0.1,))])
def test_widths_of_another_shape_are_an_error(ratios: object) -> None:
    with pytest.raises(ModelError, match="five ratios"):
        BranchWidths.from_ratios(ratios)  # type: ignore[arg-type]


def test_an_enhancer_without_any_branch_is_an_error() -> None:
    with pytest.raises(ModelError, match="at least one branch"):
        Enhancer([4, 8, 8, 8, 8], BranchWidths.from_ratios((0.0,) * 5), skip_ratio=0.25, offset_channels=4)


def test_details_are_the_concatenated_branches_in_their_order() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 8, 9, 7)
    enhancer = AdaptiveFeatureEnhancer(8, (1, 2, 3, 4, 5), offset_channels=4)
    details = enhancer(features)
    assert tuple(enhancer.branches) == BRANCHES
    assert details.shape == (2, 15, 9, 7)
    atrous3 = instance_of(ConcatConv2d, enhancer.branches["atrous3"])
    by_hand = F.conv2d(F.pad(features, (3, 3, 3, 3)), atrous3.weight, atrous3.bias, dilation=3)
    torch.testing.assert_close(details[:, 6:10], by_hand)
    context = instance_of(ContextBranch, enhancer.branches["context"]).conv
    mean_max = torch.stack((features.mean(dim=1), features.max(dim=1).values), dim=1)
    torch.testing.assert_close(details[:, 10:], F.conv2d(mean_max, context.weight, context.bias))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_details_have_the_memory_format_of_the_features(layout: torch.memory_format) -> None:
    enhancer = AdaptiveFeatureEnhancer(8, (1, 2, 3, 4, 5), offset_channels=4).to(memory_format=layout)
    assert enhancer(torch.randn(2, 8, 9, 7).to(memory_format=layout)).is_contiguous(memory_format=layout)


def test_a_branch_of_width_zero_is_left_out() -> None:
    enhancer = AdaptiveFeatureEnhancer(8, (0, 0, 3, 0, 1), offset_channels=4)
    assert list(enhancer.branches) == ["atrous2", "context"]
    assert enhancer(torch.randn(1, 8, 5, 5)).shape == (1, 4, 5, 5)


@pytest.mark.parametrize(("skip_ratio", "skips"), [(0.0, (1,) * 5), (0.25, (1, 3, 6, 6, 13))])
def test_every_level_has_a_skip_of_at_least_one_channel(skip_ratio: float, skips: tuple[int, ...]) -> None:
    channels = [8, 16, 32, 32, 64]
    enhancer = Enhancer(channels, BranchWidths.from_ratios(PAPER), skip_ratio, offset_channels=4)
    enhanced = enhancer(pyramid_of(channels))
    assert enhancer.channels == (7, 13, 26, 26, 52)
    assert enhancer.skip_channels == skips
    assert [e.details.shape[1] for e in enhanced] == list(enhancer.channels)
    assert [e.skip.shape[1] for e in enhanced] == list(skips)


def test_images_computed_one_by_one_have_the_same_values_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 8, 9, 7, dtype=torch.float64, requires_grad=True)
    enhancer = AdaptiveFeatureEnhancer(8, (2, 3, 0, 0, 0), offset_channels=4).double()
    for weight in enhancer.parameters():
        torch.nn.init.normal_(weight, std=0.3)

    def values_and_gradients(branches: list[torch.nn.Module]) -> list[torch.Tensor]:
        details = enhancer(features) if not branches else torch.cat([branch(features) for branch in branches], dim=1)
        gradients = torch.autograd.grad(details.square().sum(), [features, *enhancer.parameters()])
        return [details, *gradients]

    together = values_and_gradients([])
    plain = values_and_gradients(list(enhancer.branches.values()))
    monkeypatch.setattr(enhancing, "LARGE_MAP", 0)
    for found in (together, values_and_gradients([])):
        for ours, expected in zip(found, plain, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(enhancer(features), plain[0], rtol=1e-9, atol=1e-9)


def test_training_saves_only_features_and_weights_of_the_deformable_branches() -> None:
    features = torch.randn(2, 4, 12, 10)
    enhancer = AdaptiveFeatureEnhancer(4, (4, 4, 0, 0, 0), offset_channels=16)
    kept: list[int] = []

    def pack(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        enhancer(features)
    assert max(kept, default=0) <= max(features.numel(), *(w.numel() for w in enhancer.parameters()))


@pytest.fixture
def pyramid() -> FeaturePyramid:
    torch.manual_seed(1)
    return FeaturePyramid(*[torch.randn(2, c, 64 >> level, 32 >> level) for level, c in enumerate(CHANNELS, start=1)])


def enhancer_of(ratios: Ratios, skip_ratio: float = 0.25) -> Enhancer:
    """Build an enhancer with random offset predictors, so that its taps move."""
    enhancer = Enhancer(CHANNELS, BranchWidths.from_ratios(ratios), skip_ratio, offset_channels=4)
    for name, weight in enhancer.named_parameters():
        if ".offsets." in name:
            torch.nn.init.normal_(weight, std=0.3)
    return enhancer


@pytest.mark.parametrize("ratios", NARROWER)
@pytest.mark.parametrize("skip_ratio", [0.0, 0.5])
def test_a_slice_of_the_weights_fits_a_narrow_enhancer(ratios: Ratios, skip_ratio: float) -> None:
    alone = enhancer_of(ratios, skip_ratio)
    alone.load_state_dict(slice_weights(enhancer_of((1 / 4,) * 5, 0.5), alone), strict=True)


def test_a_slice_has_the_first_channels_of_each_branch_and_their_inputs_of_the_skip_bridge() -> None:
    widest, narrow = enhancer_of((1 / 4,) * 5), enhancer_of((1 / 8,) * 5)
    slices = slice_weights(widest, narrow)
    own = dict(widest.named_parameters())
    for branch in ("atrous2", "atrous3"):
        name = f"levels.0.branches.{branch}.weight"
        assert torch.equal(slices[name], own[name][:1])
    columns = [end - 2 for end in BRANCH_ENDS.values()]
    assert torch.equal(slices["skips.0.weight"], own["skips.0.weight"][:1, columns])


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ((1 / 2, 1 / 8, 1 / 8, 0.0, 1 / 8), "branch deform3 of level 1 has 2 channels, so no slice of it has 4"),
        ((1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8), "branch atrous3 of level 1 has 0 channels"),
        ((0.0,) * 5, "at least one branch"),
    ],
)
def test_widths_that_do_not_fit_are_an_error(ratios: tuple[float, ...], message: str) -> None:
    widest = enhancer_of((1 / 4, 1 / 4, 1 / 4, 0.0, 1 / 4))
    with pytest.raises(ModelError, match=message):
        slice_weights(widest, enhancer_of(ratios))
