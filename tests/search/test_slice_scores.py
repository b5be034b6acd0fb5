"""The score of a slice is the score of the network that it would be, with statistics of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnsa.config import Config
from mnsa.data.manifest import read_manifest
from mnsa.model.network import build_network
from mnsa.search.slice_scores import SliceScorer
from mnsa.search.space import build_search_space
from mnsa.search.supernet import make_widest_config

SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "batch_size": 4}


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    # whole images, so that each validation image is a batch
    return make_config(SECOND, data={"resize_mode": "crop"}, search={"decoder_widths": ((8, 8, 8, 8, 8), "paper")})


@pytest.fixture
def scorer(config: Config, dataset: Path) -> SliceScorer:
    torch.manual_seed(0)
    widest = build_network(make_widest_config(config, build_search_space(config)).model, 0, 1)
    for module in widest.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that no slice could use
            torch.nn.init.constant_(module.running_mean, 9.0) if module.running_mean is not None else None
    return SliceScorer(widest, config, read_manifest(dataset))


def test_a_slice_scores_as_the_network_of_its_weights_and_statistics(scorer: SliceScorer, config: Config) -> None:
    score = scorer.score(config.model)
    alone = build_network(config.model, 0, 1)
    alone.load_state_dict(scorer.calibrate(config.model).state_dict(), strict=True)
    assert score.iou == scorer.score_network(alone)
    assert score == scorer.score(config.model)  # now from memory
    mean = alone.get_buffer("decoder.levels.0.mix.1.running_mean")
    assert mean.abs().max() < 9  # of the training images, not of the widest network


def test_a_slice_below_the_floor_is_rejected_after_the_first_part(scorer: SliceScorer, config: Config) -> None:
    whole = scorer.score(config.model)
    rejected = scorer.score(config.model, floor=whole.first_part + 0.001)
    assert (rejected.first_part, rejected.iou) == (whole.first_part, None)
    assert scorer.score(config.model, floor=whole.first_part) == whole
