"""The helpers of the network benchmarks: counts, shares, layouts of tables; nothing is timed."""

import argparse

import pytest
import torch

from arithmetic import share_of_rate, step_macs
from enhancer_speed import PlainEnhancer
from mnsa.config import Config
from mnsa.model.enhancer import BranchWidths, Enhancer
from mnsa.model.network import build_network, network_cost
from mnsa.structures import FeaturePyramid
from network_speed import markdown, row_of
from stage_steps import StageSteps, config_named, random_batch, stage_of

CPU = torch.device("cpu")
SMALL = ("model.backbone=test_efficientnet", "model.decoder_channels=[8, 8, 8, 8, 8]")


@pytest.fixture(scope="module")
def config() -> Config:
    return config_named("paper.toml", *SMALL)


def test_a_share_of_the_matrix_rate_compares_adjacent_turns() -> None:
    assert share_of_rate(10, [1.0, 2.0, 1.0], 100, [2.0, 4.0, 2.0]) == 0.2


def test_a_row_takes_each_side_against_its_own_number_format() -> None:
    times = {"upstream": [8.0], "mnsa, bfloat16": [2.0], "matrices, float32": [1.0], "matrices, bfloat16": [0.5]}
    row = row_of("step", "mnsa, bfloat16", times, macs=10, batch=2, matrix=40)
    assert (row.ratio.median, row.share, row.upstream_share) == (4.0, 20 / 2 / 80, 20 / 8 / 40)


def test_a_step_costs_a_forward_pass_and_both_gradients_of_what_learns(config: Config) -> None:
    forward = network_cost(config.model, 2, 1, (64, 64)).macs
    frozen = config_named("paper.toml", *SMALL, 'stages.segmentation.trainable=["decoder"]')
    steps = {
        name: step_macs(given, "segmentation", classes=2, mask_classes=1, size=(64, 64))
        for name, given in {"both": config, "decoder": frozen}.items()
    }
    assert forward < steps["decoder"] < steps["both"] < 3 * forward


def test_the_table_has_a_line_per_row_and_names_what_was_switched_on() -> None:
    times = {"upstream": [8.0], "mnsa, float32": [2.0], "matrices, float32": [1.0], "matrices, bfloat16": [0.5]}
    row = row_of("forward", "mnsa, float32", times, macs=10, batch=2, matrix=40)
    switches = {"tf32": True, "compile": False, "no_recompute": False}
    options = argparse.Namespace(backbone="resnet18", size=64, batch=2, repeats=1, **switches)
    report = markdown([row, row], options)
    assert report.count("| forward | float32 | 4.0 (4.0-4.0) | 0.0 | 25% | 6% |") == 2
    assert ", TF32;" in report
    assert "torch.compile" not in report


def test_a_benchmarked_step_is_the_stage_s_own(config: Config) -> None:
    torch.manual_seed(0)
    network = build_network(config.model, 2, 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    steps = StageSteps(network, config, "segmentation", 1, CPU)
    steps.step(random_batch(2, (64, 64), classes=2, mask_classes=1, device=CPU))
    moved = {key.partition(".")[0] for key, value in network.state_dict().items() if (value != before[key]).any()}
    assert moved == {"enhancer", "decoder", "mask_head"}
    assert isinstance(steps.optimizer, torch.optim.SGD)
    assert stage_of(config, "segmentation").lr == steps.optimizer.param_groups[0]["lr"]


def test_a_random_batch_has_every_mask_class_and_valid_labels() -> None:
    batch = random_batch(4, (64, 64), classes=3, mask_classes=3, device=CPU)
    assert set(batch.masks.unique().tolist()) == {0, 1, 2}
    assert batch.labels.max() < 3
    assert 0.03 < (batch.masks > 0).float().mean() < 0.07


def test_the_plain_enhancer_has_the_shapes_of_the_deformable_one() -> None:
    channels, widths = (8, 16, 16, 16, 32), BranchWidths.from_ratios((1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 8))
    deformable = Enhancer(channels, widths, 0.25, 4)
    plain = PlainEnhancer(channels, widths, deformable.skip_channels)
    pyramid = FeaturePyramid(
        *(torch.randn(1, c, 64 >> level, 64 >> level) for level, c in enumerate(channels, start=1))
    )
    for ours, theirs in zip(deformable(pyramid), plain(pyramid), strict=True):
        assert [t.shape for t in ours] == [t.shape for t in theirs]
