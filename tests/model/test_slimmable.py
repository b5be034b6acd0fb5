"""A slice of the widest enhancer equals the narrow enhancer."""

from collections.abc import Sequence

import pytest
import torch

from mnsa.errors import ModelError
from mnsa.model.enhancer import BranchWidths, Enhancer
from mnsa.model.slimmable import SlicedEnhancer, slice_weights
from mnsa.structures import FeaturePyramid
from narrowing import some

CHANNELS = (8, 16, 16, 24, 32)
BRANCH_ENDS = {"deform3": 2, "deform5": 4, "atrous2": 6, "atrous3": 8, "context": 10}  # of level 1 at the widest
Ratios = Sequence[float] | Sequence[Sequence[float]]
NARROWER = [
    (1 / 4,) * 5,
    (1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8),
    (0.0, 1 / 8, 0.0, 1 / 16, 1 / 4),
    [(1 / 8, 0.0, 0.0, 0.0, 1 / 4), *[(0.0, 1 / 4, 1 / 8, 1 / 16, 0.0)] * 4],
]


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
def test_a_slice_equals_a_narrow_enhancer_with_the_same_weights(
    pyramid: FeaturePyramid, ratios: Ratios, skip_ratio: float
) -> None:
    widest = enhancer_of((1 / 4,) * 5, skip_ratio)
    alone = enhancer_of(ratios, skip_ratio)
    alone.load_state_dict(slice_weights(widest, alone), strict=True)
    sliced = SlicedEnhancer(widest, BranchWidths.from_ratios(ratios))
    assert (sliced.channels, sliced.skip_channels) == (alone.channels, alone.skip_channels)
    torch.testing.assert_close(sliced(pyramid), alone(pyramid), rtol=0, atol=0)


def test_a_slice_has_the_first_channels_of_each_branch_and_their_inputs_of_the_skip_bridge() -> None:
    widest, narrow = enhancer_of((1 / 4,) * 5), enhancer_of((1 / 8,) * 5)
    slices = slice_weights(widest, narrow)
    own = dict(widest.named_parameters())
    for branch in ("atrous2", "atrous3"):
        name = f"levels.0.branches.{branch}.weight"
        assert torch.equal(slices[name], own[name][:1])
    columns = [end - 2 for end in BRANCH_ENDS.values()]
    assert torch.equal(slices["skips.0.weight"], own["skips.0.weight"][:1, columns])


def test_only_the_sliced_channels_of_the_widest_weights_get_gradients(pyramid: FeaturePyramid) -> None:
    ratios = (1 / 8, 0.0, 1 / 4, 1 / 16, 1 / 8)
    widest = enhancer_of((1 / 4,) * 5)
    alone = enhancer_of(ratios)
    alone.load_state_dict(slice_weights(widest, alone))
    for enhancer in (SlicedEnhancer(widest, BranchWidths.from_ratios(ratios)), alone):
        sum((details.square().sum() + skip.square().sum()) for details, skip in enhancer(pyramid)).backward()
    kernel, offsets = "levels.3.branches.deform3.conv.weight", "levels.3.branches.deform3.offsets.0.weight"
    wide, slim = (some(enhancer.get_parameter(kernel).grad) for enhancer in (widest, alone))
    assert slim.abs().sum() > 0
    rows = torch.arange(3)  # deform3 of level 4: 24 / 8 channels of 24 / 4
    torch.testing.assert_close(wide[rows], slim)
    assert wide[3:].abs().sum() == 0
    assert widest.get_parameter("levels.3.branches.deform5.conv.weight").grad is None
    torch.testing.assert_close(*(some(enhancer.get_parameter(offsets).grad) for enhancer in (widest, alone)))
    assert list(SlicedEnhancer(widest, BranchWidths.from_ratios(ratios)).parameters()) == []


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
        SlicedEnhancer(widest, BranchWidths.from_ratios(ratios))
