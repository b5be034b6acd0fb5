"""Samplers and pruners of Optuna, with one seed per trial.

Training is deterministic: the same network would get the same score. So no network is sampled twice.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mnsa.config import SearchConfig
from mnsa.search.space import MAX_GRID_POINTS, Point, SearchSpace, grid_points, levels_without_branch

REDUCTION_FACTOR = 3  # successive halving: one of so many trials at a rung continues

MAX_RESAMPLES = 20  # then TPE takes the next point that was not tried, from the list of all points


@dataclass(frozen=True)
class SamplingPlan:
    """The points that are fixed before a study starts.

    points: all points of the space in an order that depends on the seed; empty if the space is too large to list.
    num_listed: the number of first trials that take their point from `points`; later ones are sampled.
    max_trials: the number of points, or None if they are not listed.
    """

    points: Sequence[Point]
    num_listed: int
    max_trials: int | None


def make_sampling_plan(space: SearchSpace, search: SearchConfig) -> SamplingPlan:
    """Plan a study: `random` and `grid` follow the list of points to its end, `tpe` for its startup trials."""
    if space.lr is not None or space.num_points > MAX_GRID_POINTS:
        return SamplingPlan((), 0, None)
    points = grid_points(space, search.seed)
    num_listed = search.startup_trials if search.sampler == "tpe" else len(points)
    return SamplingPlan(points, num_listed, len(points))


def make_sampler(search: SearchConfig, plan: SamplingPlan, index: int) -> BaseSampler:
    """Make the sampler of one trial; `index` counts the trials of the budget from 0.

    Its random numbers depend on the seed of the study and the index alone. So two workers never sample the same point,
    and a study samples the same points with any number of workers (tpe: if the same trials have ended before).
    """
    digest = hashlib.sha256(f"{search.seed}/{index}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    if search.sampler == "tpe":
        return UniqueTPESampler(seed, search.startup_trials, plan.points)
    return RandomSampler(seed=seed)


def make_pruner(search: SearchConfig) -> BasePruner:
    """Make the rule that stops a trial after an epoch; epochs count from 1.

    halving: asynchronous successive halving (Li et al. 2020). The rungs are at grace_period, 3 x grace_period,
    9 x grace_period ... epochs, and a third of the trials passes each. median: a trial stops if its best IoU is below
    the median of the other trials at the same epoch.
    """
    if search.pruner == "halving":
        return HalvingPruner(min_resource=search.grace_period, reduction_factor=REDUCTION_FACTOR)
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=search.startup_trials, n_warmup_steps=search.grace_period)
    return NopPruner()


class HalvingPruner(SuccessiveHalvingPruner):
    """Successive halving without failed attempts: the next attempt at the same trial counts instead."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return super().prune(cast("Study", _StudyWithoutFailures(study)), trial)


class UniqueTPESampler(TPESampler):
    """TPE that samples no point twice, and no point with a level without a branch."""

    def __init__(self, seed: int, startup_trials: int, points: Sequence[Point]) -> None:
        super().__init__(seed=seed, n_startup_trials=startup_trials, multivariate=True, constant_liar=True)
        self._points = points

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample until the point is new and valid."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {_point_key(other.system_attrs.get("fixed_params") or other.params) for other in others}
        for _ in range(MAX_RESAMPLES):
            point = super().sample_relative(study, trial, search_space)
            if not point or not (_point_key(point) in tried or levels_without_branch(point)):
                return point
        return dict(next((listed for listed in self._points if _point_key(listed) not in tried), point))


class _StudyWithoutFailures:
    """A study whose failed trials are hidden from the pruner."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy) if trial.state != TrialState.FAIL]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def _point_key(point: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(point.items())
