"""The search space: the networks that a search can draw, and how a drawn point becomes a config.

A point holds the values of one trial, one per parameter, such as {"deform3": 0.125, ...}.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from optuna import Trial

from mnsa.config import Config, StageConfig
from mnsa.errors import ConfigError
from mnsa.model.enhancer import BRANCHES, LEVELS

BRANCH_KINDS = {
    "deform3": "deform", "deform5": "deform", "atrous2": "atrous", "atrous3": "atrous", "context": "context",
}  # fmt: skip

MAX_GRID_POINTS = 100_000

ParamValue = float | str

Point = Mapping[str, ParamValue]


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of a search.

    widths: the width ratios that each branch can have. others: the values of the other categorical parameters.
    lr: lowest and highest learning rate, or None.
    """

    widths: Mapping[str, tuple[float, ...]]
    others: Mapping[str, tuple[ParamValue, ...]]
    lr: tuple[float, float] | None

    @property
    def choices(self) -> dict[str, tuple[ParamValue, ...]]:
        """All categorical parameters with their values."""
        return {**self.widths, **self.others}

    @property
    def num_points(self) -> int:
        """The number of points, without the learning rate."""
        return prod(len(values) for values in self.choices.values())


def build_search_space(config: Config) -> SearchSpace:
    """Build the space of a config's [search] section. Raises: ConfigError if the config has nothing to search."""
    search = config.search
    shared, own = split_stages(config)
    if not any("segmentation" in stage.tasks for stage in own):
        raise ConfigError("A search compares masks, but no stage of the config has the task segmentation. Add one.")
    if config.model.decoder != "enhanced":
        raise ConfigError(
            f"A search varies the widths of the enhancer, but model.decoder = {config.model.decoder!r} has none. "
            "Set it to 'enhanced'."
        )
    if search.attentions and not any("classification" in stage.tasks for stage in own):
        raise ConfigError(
            f"search.attentions changes what stage {shared[-1].name!r} trains, but all trials share that stage, and no "
            "mask depends on it. Remove search.attentions, or train both tasks in one stage."
        )
    others: dict[str, tuple[ParamValue, ...]] = {
        "skip_ratio": search.skip_ratios,
        "attention": search.attentions,
        "decoder_channels": tuple(_format_decoder(channels) for channels in search.decoder_widths),
    }
    widths = dict.fromkeys(_width_param_names(search.per_level), search.ratios)
    space = SearchSpace(widths, {name: values for name, values in others.items() if values}, search.lr)
    if space.num_points == 1 and space.lr is None:
        raise ConfigError(
            "The search space has one network, so there is nothing to search. Give search.ratios, or another list of "
            "[search], a second value."
        )
    if search.sampler == "grid" and space.num_points > MAX_GRID_POINTS:
        raise ConfigError(
            f"The grid has {space.num_points:,} points; at most {MAX_GRID_POINTS:,} are supported. Set search.sampler "
            "to tpe or random, or search.per_level to no."
        )
    return space


def split_stages(config: Config) -> tuple[tuple[StageConfig, ...], tuple[StageConfig, ...]]:
    """Return the stages that all trials share, and the stages that each trial trains: from the first with masks on."""
    first = next((i for i, stage in enumerate(config.stages) if "segmentation" in stage.tasks), len(config.stages))
    return config.stages[:first], config.stages[first:]


def suggest_point(space: SearchSpace, trial: Trial) -> Point:
    """Draw a point with the sampler of the trial's study."""
    point: dict[str, Any] = {name: trial.suggest_categorical(name, values) for name, values in space.choices.items()}
    if space.lr is not None:
        point["lr"] = trial.suggest_float("lr", *space.lr, log=True)
    return point


def grid_points(space: SearchSpace, seed: int) -> list[Point]:
    """List every point with a branch at each level once, in an order that depends on the seed alone."""
    points = [dict(zip(space.choices, values, strict=True)) for values in product(*space.choices.values())]
    possible: list[Point] = [point for point in points if not levels_without_branch(point)]
    random.Random(seed).shuffle(possible)  # noqa: S311 - an order, not a secret
    return possible


def levels_without_branch(point: Point) -> list[int]:
    """List the levels (1..5) at which a point has no branch."""
    return [level for level, ratios in enumerate(_level_ratios(point), start=1) if not any(ratios)]


def apply_point(config: Config, point: Point) -> Config:
    """Return the config with the network, and the learning rate, of a point."""
    ratios = _level_ratios(point)
    changes: dict[str, Any] = {"widths": ratios[0] if config.search.per_level == "no" else ratios}
    changes |= {name: point[name] for name in ("skip_ratio", "attention") if name in point}
    if "decoder_channels" in point:
        changes["decoder_channels"] = _parse_decoder(str(point["decoder_channels"]))
    shared, own = split_stages(config)
    if "lr" in point:
        own = tuple(_with_lr(stage, float(point["lr"])) for stage in own)
    return config.model_copy(update={"model": config.model.model_copy(update=changes), "stages": (*shared, *own)})


def cheapest_points(space: SearchSpace) -> Iterator[Point]:
    """Yield the points that can be the cheapest: the smallest widths, with each value of the other parameters.

    Where all branches of a level may be absent, the context branch stays. It is the cheapest: a 1x1 convolution of two
    channels.
    """
    widths = {
        name: min(ratio for ratio in values if ratio > 0 or not name.endswith("context"))
        for name, values in space.widths.items()
    }
    for values in product(*space.others.values()):
        yield {**widths, **dict(zip(space.others, values, strict=True))}


def smallest_point(space: SearchSpace) -> Point:
    """Return the point with the smallest value of every parameter; a decoder is as small as its channels' sum."""
    return min(
        cheapest_points(space),
        key=lambda point: (float(point.get("skip_ratio", 0)), _decoder_sum(point)),
    )


def random_point(space: SearchSpace, rng: random.Random) -> Point:
    """Draw every parameter uniformly until each level has a branch."""
    while True:
        point = {name: rng.choice(values) for name, values in space.choices.items()}
        if not levels_without_branch(point):
            return point


def widest_config(config: Config, space: SearchSpace, paper_decoder: Sequence[int]) -> Config:
    """Return the config of the network that has every network of the space as a slice.

    paper_decoder: the channels of the decoder that is named `paper`. The widest decoder has the most channels that any
    decoder of the space has at each level, so it may be none of them.
    """
    point: dict[str, ParamValue] = {name: max(values) for name, values in space.widths.items()}
    if skips := space.others.get("skip_ratio"):
        point["skip_ratio"] = max(map(float, skips))
    widest = apply_point(config, point)
    names = map(str, space.others.get("decoder_channels", ()))
    decoders = [paper_decoder if name == "paper" else _parse_decoder(name) for name in names]
    if decoders:
        channels = tuple(max(level) for level in zip(*decoders, strict=True))
        widest = widest.model_copy(update={"model": widest.model.model_copy(update={"decoder_channels": channels})})
    return widest


def _decoder_sum(point: Point) -> float:
    """Sum a decoder's channels; `paper` is the largest of all."""
    channels = _parse_decoder(str(point.get("decoder_channels", "0")))
    return float("inf") if isinstance(channels, str) else sum(channels)


def _width_param_names(per_level: str) -> list[str]:
    if per_level == "no":
        return list(BRANCHES)
    names = BRANCHES if per_level == "branches" else tuple(dict.fromkeys(BRANCH_KINDS.values()))
    return [f"level{level}_{name}" for level in range(1, LEVELS + 1) for name in names]


def _level_ratios(point: Point) -> tuple[tuple[float, ...], ...]:
    """Return five ratios for each level."""
    return tuple(tuple(_branch_ratio(point, level, branch) for branch in BRANCHES) for level in range(1, LEVELS + 1))


def _branch_ratio(point: Point, level: int, branch: str) -> float:
    names = (branch, f"level{level}_{branch}", f"level{level}_{BRANCH_KINDS[branch]}")
    return float(point[next(name for name in names if name in point)])


def _with_lr(stage: StageConfig, lr: float) -> StageConfig:
    """Return the stage with another learning rate; that of the backbone keeps its proportion."""
    backbone_lr = None if stage.backbone_lr is None else stage.backbone_lr * lr / stage.lr
    return stage.model_copy(update={"lr": lr, "backbone_lr": backbone_lr})


def _format_decoder(channels: tuple[int, ...] | str) -> str:
    return channels if isinstance(channels, str) else "-".join(map(str, channels))


def _parse_decoder(name: str) -> tuple[int, ...] | str:
    return name if name == "paper" else tuple(int(channels) for channels in name.split("-"))
