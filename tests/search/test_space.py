"""The space is what the config says, and every point of it a network."""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import pytest

from mnsa.config import Config
from mnsa.errors import ConfigError
from mnsa.model.network import network_cost
from mnsa.search.space import (
    apply_point,
    build_search_space,
    cheapest_points,
    grid_points,
    levels_without_branch,
    split_stages,
)
from narrowing import instance_of

FIRST = {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "attention", "class_head")}
SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "backbone_lr": 0.002}


def test_space_of_the_paper_has_243_points_and_the_grid_lists_each_once(make_config: Callable[..., Config]) -> None:
    config = make_config(search={"sampler": "grid"})
    space = build_search_space(config)
    points = grid_points(space, seed=1)
    assert space.num_points == len(points) == 243
    assert {tuple(apply_point(config, point).model.widths) for point in points} == set(
        product((1 / 16, 1 / 8, 1 / 4), repeat=5)
    )


def test_seed_changes_only_the_order_of_the_grid(make_config: Callable[..., Config]) -> None:
    space = build_search_space(make_config())
    first, again, other = grid_points(space, 1), grid_points(space, 1), grid_points(space, 2)
    assert first == again != other
    assert sorted(map(str, first)) == sorted(map(str, other))


@pytest.mark.parametrize(("per_level", "choices"), [("no", 5), ("kinds", 15), ("branches", 25)])
def test_ratios_apply_to_all_levels_or_per_level(
    make_config: Callable[..., Config], per_level: str, choices: int
) -> None:
    config = make_config(search={"per_level": per_level})
    space = build_search_space(config)
    assert len(space.widths) == choices
    rng = random.Random(3)
    point = {name: rng.choice(values) for name, values in space.choices.items()}
    widths = apply_point(config, point).model.widths
    if per_level == "no":
        assert widths == tuple(point[name] for name in ("deform3", "deform5", "atrous2", "atrous3", "context"))
    elif per_level == "kinds":
        for level, row in enumerate(widths, start=1):
            deform, atrous, context = (point[f"level{level}_{kind}"] for kind in ("deform", "atrous", "context"))
            assert row == (deform, deform, atrous, atrous, context)
    else:
        assert instance_of(tuple, widths[3])[2] == point["level4_atrous2"]


def test_point_changes_only_the_listed_values(make_config: Callable[..., Config]) -> None:
    search = {
        "skip_ratios": (0.0, 0.5),
        "attentions": ("none", "mean_max"),
        "decoder_widths": ((8, 8, 8, 8, 8), "paper", (4, 8, 16, 16, 32)),
        "lr": (1e-4, 1e-2),
    }
    config = make_config(search=search)
    space = build_search_space(config)
    assert space.others["decoder_channels"] == ("8-8-8-8-8", "paper", "4-8-16-16-32")
    widths = dict.fromkeys(space.widths, 0.25)
    point: dict[str, float | str] = {
        **widths,
        "skip_ratio": 0.5,
        "attention": "none",
        "decoder_channels": "4-8-16-16-32",
        "lr": 0.003,
    }
    found = apply_point(config, point)
    assert found.model.decoder_channels == (4, 8, 16, 16, 32)
    assert (found.model.skip_ratio, found.model.attention, found.stages[0].lr) == (0.5, "none", 0.003)
    assert apply_point(config, {**point, "decoder_channels": "paper"}).model.decoder_channels == "paper"
    same = {"widths", "skip_ratio", "attention", "decoder_channels"}
    assert found.model.model_dump(exclude=same) == config.model.model_dump(exclude=same)


def test_learning_rate_applies_to_the_stages_of_the_trial(make_config: Callable[..., Config]) -> None:
    config = make_config(FIRST, SECOND, search={"lr": (1e-4, 1e-2)})
    shared, own = split_stages(config)
    assert [stage.name for stage in shared + own] == ["first", "second"]
    first, second = apply_point(config, {**dict.fromkeys(build_search_space(config).widths, 0.25), "lr": 0.05}).stages
    assert first == config.stages[0]
    assert second.lr == 0.05
    assert second.backbone_lr == pytest.approx(0.01)


def test_grid_leaves_out_networks_with_an_empty_level(make_config: Callable[..., Config]) -> None:
    config = make_config(search={"ratios": (0.0, 0.25), "sampler": "grid"})
    points = grid_points(build_search_space(config), seed=1)
    assert len(points) == 2**5 - 1
    assert not any(levels_without_branch(point) for point in points)
    assert levels_without_branch(dict.fromkeys(build_search_space(config).widths, 0.0)) == [1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [{"ratios": (0.0, 0.25)}, {"ratios": (0.125, 0.25), "decoder_widths": ((16,) * 5, (8,) * 5, (4, 4, 4, 4, 64))}],
)
def test_no_network_of_the_space_is_cheaper_than_the_cheapest_points(
    make_config: Callable[..., Config], search: dict[str, tuple[Any, ...]]
) -> None:
    config = make_config(search={**search, "sampler": "grid"})
    space = build_search_space(config)

    def macs(point: Mapping[str, float | str]) -> int:
        return network_cost(apply_point(config, point).model, 3, 1, (32, 32)).macs

    least = min(macs(point) for point in cheapest_points(space))
    narrowest = sorted(grid_points(space, seed=1), key=lambda point: sum(float(point[name]) for name in space.widths))
    assert least == min(macs(point) for point in narrowest[:6])


@pytest.mark.parametrize(
    ("stages", "search", "message"),
    [
        ([FIRST], {}, "no stage of the config has the task segmentation"),
        ([FIRST, SECOND], {"attentions": ("none", "mean")}, "stage 'first' trains, but all trials share that stage"),
        ([{}], {"sampler": "grid", "per_level": "kinds"}, "14,348,907 points; at most 100,000"),
    ],
)
def test_config_without_anything_to_search_is_refused(
    make_config: Callable[..., Config], stages: Any, search: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_search_space(make_config(*stages, search=search))


def test_decoder_without_widths_is_refused(make_config: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"widths of the enhancer, but model\.decoder = 'unet' has none"):
        build_search_space(make_config({**SECOND, "trainable": ("decoder",)}, model={"decoder": "unet"}))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"objectives": ("macs",)}, "expected 'iou', alone or before a cost"),
        ({"objectives": ("iou", "macs")}, "set search.pruner = 'none'"),
        ({"ratios": (0.0,)}, "leaves no branch"),
        ({"ratios": (0.25, 0.25)}, "search.ratios has the same value twice"),
        ({"lr": (0.1, 0.01)}, "the lowest and the highest"),
        ({"lr": (0.01, 0.1), "sampler": "grid"}, "remove search.lr"),
        ({"ratio": (0.1,)}, "unknown key 'search.ratio'; did you mean 'ratios'"),
    ],
)
def test_contradictory_search_section_is_refused(
    make_config: Callable[..., Config], search: dict[str, tuple[str | float, ...] | Sequence[Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(search=search)
