"""Samplers draw each network once, from the seed; pruners stop the trials they should, and ghosts don't compete."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial

from mnsa.config import Config, SearchConfig
from mnsa.search.sampling import make_pruner, make_sampler, make_sampling_plan
from mnsa.search.space import build_search_space, grid_points, levels_without_branch, suggest_point
from mnsa.search.trial_queue import BUDGET_ATTR, LivenessMonitor, TrialQueue


@pytest.fixture
def points_of(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., list[Mapping[str, float | str]]]:
    """The points of a study's first trials, each scored by a function of its point."""

    def run(
        trials: int, score: Callable[..., float] = lambda point: 0.5, **search: int | str | tuple[float, float]
    ) -> list[Mapping[str, float | str]]:
        config = make_config(search=search)
        space = build_search_space(config)
        plan = make_sampling_plan(space, config.search)
        study = optuna.create_study(direction="maximize")
        study.set_user_attr(BUDGET_ATTR, trials)
        queue, points = TrialQueue(study, tmp_path / "queue.lock", LivenessMonitor(20), plan), []
        while (trial := queue.claim()) is not None:
            study.sampler = make_sampler(config.search, plan, trial.user_attrs["index"])
            points.append(suggest_point(space, trial))
            queue.finish(trial, TrialState.COMPLETE, [score(points[-1])])
        return points

    return run


def wide_deform3(point: Any) -> Any:
    return 1.0 - abs(point["deform3"] - 0.25) - abs(point["context"] - 1 / 16)


def distinct(points: list[Mapping[str, float | str]]) -> int:
    return len({str(point) for point in points})


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_points_depend_on_the_seed(points_of: Callable[..., list[Mapping[str, float | str]]], sampler: str) -> None:
    settings = {"sampler": sampler, "startup_trials": 3}
    points = points_of(8, wide_deform3, **settings)
    assert points == points_of(8, wide_deform3, **settings)
    assert points != points_of(8, wide_deform3, **settings, seed=2)


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_no_point_is_sampled_twice_and_finally_each_once(
    points_of: Callable[..., list[Mapping[str, float | str]]], sampler: str
) -> None:
    points = points_of(99, wide_deform3, sampler=sampler, ratios=(0.0, 0.25), startup_trials=4)
    assert len(points) == distinct(points) == 2**5 - 1
    assert not any(levels_without_branch(point) for point in points)


def test_tpe_starts_like_random_and_then_prefers_good_points(
    points_of: Callable[..., list[Mapping[str, float | str]]],
) -> None:
    tpe, chance = (points_of(40, wide_deform3, sampler=sampler) for sampler in ("tpe", "random"))
    assert tpe[:10] == chance[:10]
    scores = [[wide_deform3(point) for point in points[10:]] for points in (tpe, chance)]
    assert scores[0].count(1.0) >= 7  # of 30, twice what chance gives: 27 of 243 networks are as good
    assert sum(scores[0]) > sum(scores[1]) + 1


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_space_with_a_learning_rate_has_no_last_point(
    points_of: Callable[..., list[Mapping[str, float | str]]], sampler: str
) -> None:
    settings = {"sampler": sampler, "startup_trials": 3, "lr": (1e-4, 1e-2)}
    points = points_of(6, **settings)
    assert distinct(points) == 6
    assert all(1e-4 <= float(point["lr"]) <= 1e-2 for point in points)
    assert points == points_of(6, **settings)
    assert points != points_of(6, **settings, seed=2)


def test_parallel_workers_sample_different_points(make_config: Callable[..., Config]) -> None:
    config = make_config(search={"sampler": "random", "lr": (1e-4, 1e-2)})
    space, study = build_search_space(config), optuna.create_study(direction="maximize")
    points = []
    for index in range(4):
        study.sampler = make_sampler(config.search, make_sampling_plan(space, config.search), index)
        points.append(suggest_point(space, study.ask()))
    assert distinct(points) == 4


def test_tpe_takes_the_next_listed_point_if_it_samples_no_new_one(make_config: Callable[..., Config]) -> None:
    config = make_config(search={"ratios": (0.125, 0.25), "startup_trials": 1})
    space = build_search_space(config)
    plan, study = make_sampling_plan(space, config.search), optuna.create_study(direction="maximize")
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(values) for name, values in space.choices.items()
    }
    *tried, last = grid_points(space, config.search.seed)
    for point in random.Random(1).sample(tried, len(tried)):
        study.add_trial(create_trial(params=dict(point), distributions=distributions, value=0.5))
    study.sampler = make_sampler(config.search, plan, 31)
    assert suggest_point(space, study.ask()) == last


def run(study: optuna.Study, values: list[float]) -> int:
    """Report epoch by epoch until pruned; the epochs it lived."""
    trial = study.ask()
    for epoch, value in enumerate(values, start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, values[-1])
    return len(values)


@pytest.fixture
def study_of() -> Callable[..., optuna.Study]:
    return lambda **search: optuna.create_study(direction="maximize", pruner=make_pruner(SearchConfig(**search)))


def test_halving_passes_the_best_third_at_each_rung(study_of: Callable[..., optuna.Study]) -> None:
    study = study_of(pruner="halving", grace_period=1)
    assert run(study, [0.5] * 9) == 9
    assert run(study, [0.4] * 9) == 1
    assert run(study, [0.6, 0.6, 0.3] + [0.9] * 6) == 3  # the second rung is epoch 3, where 0.5 is better
    assert run(study, [0.7] * 9) == 9


def test_median_pruner_stops_the_worse_half_after_the_startup_trials(study_of: Callable[..., optuna.Study]) -> None:
    study = study_of(pruner="median", startup_trials=3, grace_period=2)
    assert [run(study, [value] * 4) for value in (0.1, 0.5, 0.6)] == [4, 4, 4]
    assert run(study, [0.4] * 4) == 2
    assert run(study, [0.55] * 4) == 4


def test_pruner_none_stops_no_trial(study_of: Callable[..., optuna.Study]) -> None:
    study = study_of(pruner="none")
    assert [run(study, [value] * 3) for value in (0.9, 0.1, 0.01)] == [3, 3, 3]


def test_failed_attempt_does_not_compete_with_the_next_one(study_of: Callable[..., optuna.Study]) -> None:
    study = study_of(pruner="halving", grace_period=1)
    ghost = study.ask()
    ghost.report(0.9, 1)
    assert not ghost.should_prune()
    study.tell(ghost, state=TrialState.FAIL)
    assert run(study, [0.5] * 3) == 3
