"""A slice of the widest network is a network of its own: the same numbers, the same gradients, its own statistics."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mnsa.config import Config, ModelConfig
from mnsa.errors import ModelError
from mnsa.model.network import Network, build_network
from mnsa.search.slices import SubNetwork
from narrowing import some

WIDEST: dict[str, Any] = {"widths": (0.25,) * 5, "skip_ratio": 0.5, "decoder_channels": (40, 10, 8, 8, 12)}
NARROWER: dict[str, dict[str, Any]] = {
    "itself": {},
    "ratios": {"widths": (0.125, 0.0625, 0.25, 0.125, 0.0625), "skip_ratio": 0.0},
    "without branches": {"widths": [(0.25, 0.0, 0.0, 0.0, 0.125), *[(0.0, 0.25, 0.125, 0.0, 0.0)] * 4]},
    "narrow decoder": {"widths": (0.0, 0.125, 0.0, 0.25, 0.25), "decoder_channels": (36, 4, 8, 6, 12)},
    "narrow head": {"decoder_channels": (8, 8, 8, 8, 8), "skip_ratio": 0.25},
}


@pytest.fixture
def model_of(make_config: Callable[..., Config]) -> Callable[..., ModelConfig]:
    widest = make_config(model=WIDEST).model

    def model(**keys: Any) -> ModelConfig:
        return widest.model_copy(update=keys)

    return model


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(2, 3, 64, 96, generator=generator).contiguous(memory_format=torch.channels_last)


def build(model: ModelConfig, mask_classes: int = 1) -> Network:
    """A network whose deformable branches sample elsewhere than on the grid."""
    torch.manual_seed(1)
    network = build_network(model, classes=3, mask_classes=mask_classes)
    for name, parameter in network.named_parameters():
        if ".offsets.2." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("keys", NARROWER.values(), ids=NARROWER)
@pytest.mark.parametrize(("mask_resolution", "mask_classes"), [("full", 1), ("full", 3), ("half", 2)])
@pytest.mark.parametrize("training", [True, False])
def test_a_slice_computes_what_a_network_of_its_widths_computes(
    model_of: Callable[..., ModelConfig], images: Tensor, keys: dict[str, Any], mask_resolution: str,
    mask_classes: int, training: bool,
) -> None:  # fmt: skip
    model = model_of(mask_resolution=mask_resolution, **keys)
    widest = build(model_of(mask_resolution=mask_resolution), mask_classes)
    slim = SubNetwork(widest, model, mask_classes)
    slim.train(training)
    alone = build(model, mask_classes)
    alone.load_state_dict(slim.state_dict(), strict=True)
    for part in (alone.decoder, alone.mask_head):
        some(part).train(training)
    pyramid = widest.features(images)
    logits, sides = slim.segment(pyramid, images, sides=True)
    expected, expected_sides = alone.segment_with_side_logits(alone.features(images), images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    torch.testing.assert_close(sides, expected_sides, rtol=0, atol=0)
    assert slim.segment(pyramid, images)[1] == ()


def test_gradients_of_a_slice_go_to_its_part_of_the_widest_weights(
    model_of: Callable[..., ModelConfig], images: Tensor
) -> None:
    widest, model = build(model_of()), model_of(**NARROWER["narrow decoder"])
    slim, alone = SubNetwork(widest, model, 1), build(model)
    slim.train()
    alone.load_state_dict(slim.state_dict())
    some(alone.decoder).train()
    some(alone.mask_head).train()
    for logits in (slim.segment(widest.features(images), images)[0], alone.segment(alone.features(images), images)):
        logits.square().mean().backward()
    kernel = "decoder.levels.1.refine.0.weight"  # reads O_2 = 4 of 10 channels, then the skip
    wide, narrow = (some(network.get_parameter(kernel).grad) for network in (widest, alone))
    skip = some(alone.enhancer).skip_channels[1]
    torch.testing.assert_close(wide[:4, :4], narrow[:, :4])
    torch.testing.assert_close(wide[:4, 10 : 10 + skip], narrow[:, 4:])
    assert narrow.abs().sum() > 0
    torch.testing.assert_close(wide.abs().sum(), narrow.abs().sum())  # nothing elsewhere
    assert widest.get_parameter("enhancer.levels.0.branches.atrous2.weight").grad is None  # not in the slice


def test_a_slice_leaves_the_statistics_of_the_widest_network_alone(
    model_of: Callable[..., ModelConfig], images: Tensor
) -> None:
    widest = build(model_of())
    before = {name: buffer.clone() for name, buffer in widest.named_buffers()}
    slim = SubNetwork(widest, model_of(widths=(0.125,) * 5), 1, momentum=None)
    slim.train()
    batches = [images, 3 * images.flip(0), images - 1]
    with torch.no_grad():
        for batch in batches:
            slim.segment(widest.features(batch), batch)
    assert all(torch.equal(buffer, before[name]) for name, buffer in widest.named_buffers())
    assert int(slim.statistics["mask_head.mix.1.num_batches_tracked"]) == len(batches)
    # a cumulative average weights all batches equally: in any order the statistics are the same
    again = SubNetwork(widest, model_of(widths=(0.125,) * 5), 1, momentum=None)
    again.train()
    with torch.no_grad():
        for batch in reversed(batches):
            again.segment(widest.features(batch), batch)
    for name, value in slim.statistics.items():
        torch.testing.assert_close(again.statistics[name], value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"widths": (0.5, 0.25, 0.25, 0.25, 0.25)},
            "branch deform3 of level 1 has [0-9]+ channels, so no slice of it has [0-9]+",
        ),
        ({"decoder_channels": (40, 10, 8, 9, 12)}, "the decoder of level 4 has 8 channels, so no slice of it has 9"),
        ({"skip_ratio": 0.75}, "the skip of level 1 has [0-9]+ channels, so no slice of it has [0-9]+"),
        ({"decoder": "unet"}, "only a network with model.decoder = 'enhanced'"),
    ],
)
def test_widths_that_do_not_fit_are_an_error(
    model_of: Callable[..., ModelConfig], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        SubNetwork(build(model_of()), model_of(**keys), 1)
