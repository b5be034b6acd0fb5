"""How points are sampled and when a trial is pruned: Optuna's samplers and pruners, with one seed per trial.

Training is deterministic: a network that is drawn twice would score the same. So no network is drawn twice.
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

REDUCTION_FACTOR = 3  # of the trials that reach a rung of successive halving, one in so many goes on

MAX_REDRAWS = 20  # before a sampler that keeps drawing what was tried is given a point that was not


@dataclass(frozen=True)
class SamplingPlan:
    """What is known of a study's draws before it begins.

    points: every point of a space that can be listed, shuffled by the seed; else empty. num_listed: how many of the first
    trials take theirs from it: all but those that tpe draws. max_trials: as many trials as there are points, if listed.
    """

    points: Sequence[Point]
    num_listed: int
    max_trials: int | None


def make_sampling_plan(space: SearchSpace, search: SearchConfig) -> SamplingPlan:
    """Plan a study: random and grid go through the shuffled points, tpe does so until it has seen enough."""
    if space.lr is not None or space.num_points > MAX_GRID_POINTS:
        return SamplingPlan((), 0, None)
    order = grid_points(space, search.seed)
    num_listed = search.startup_trials if search.sampler == "tpe" else len(order)
    return SamplingPlan(order, num_listed, len(order))


class HalvingPruner(SuccessiveHalvingPruner):
    """Successive halving in which an attempt that failed does not compete: the next attempt at its trial does."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return super().prune(cast("Study", _StudyWithoutFailures(study)), trial)


class _StudyWithoutFailures:
    """A study that shows its pruner no failed trial."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy) if trial.state != TrialState.FAIL]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


class UniqueTPESampler(TPESampler):
    """TPE that draws no point a second time, and none without a branch at some level."""

    def __init__(self, seed: int, startup_trials: int, order: Sequence[Point]) -> None:
        super().__init__(seed=seed, n_startup_trials=startup_trials, multivariate=True, constant_liar=True)
        self._order = order

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw; and again while the point is none to try."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {_point_key(other.system_attrs.get("fixed_params") or other.params) for other in others}
        for _ in range(MAX_REDRAWS):
            point = super().sample_relative(study, trial, search_space)
            if not point or not (_point_key(point) in tried or levels_without_branch(point)):
                return point
        return dict(next((fresh for fresh in self._order if _point_key(fresh) not in tried), point))


def make_sampler(search: SearchConfig, plan: SamplingPlan, index: int) -> BaseSampler:
    """The sampler of one trial of the study's budget (`index` from 0).

    Its random numbers come from the study's seed and the index: workers never draw the same, and a study draws the
    same whoever works on it (tpe: as far as the same trials have ended before).
    """
    digest = hashlib.sha256(f"{search.seed}/{index}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    return (
        UniqueTPESampler(seed, search.startup_trials, plan.points)
        if search.sampler == "tpe"
        else RandomSampler(seed=seed)
    )


def _point_key(point: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(point.items())


def make_pruner(search: SearchConfig) -> BasePruner:
    """The rule that stops a trial after an epoch; epochs count from 1.

    halving: epochs spared, 3 x spared, 9 x spared ... are rungs, which a third of the trials survives (asynchronous
    successive halving, Li et al. 2020). median: a trial stops when its best IoU is under the median of the others'
    at that epoch.
    """
    if search.pruner == "halving":
        return HalvingPruner(min_resource=search.grace_period, reduction_factor=REDUCTION_FACTOR)
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=search.startup_trials, n_warmup_steps=search.grace_period)
    return NopPruner()
