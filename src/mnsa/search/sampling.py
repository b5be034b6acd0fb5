"""How points are drawn and when a trial is stopped early: Optuna's samplers and pruners, seeded trial by trial.

Training is deterministic, so a network that is drawn a second time would score the same: none is.
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
from mnsa.search.space import LARGEST_GRID, Point, Space, bare_levels, grid

REDUCTION = 3  # of the trials that reach a rung of successive halving, one in so many goes on
REDRAWS = 20  # before a sampler that keeps drawing what was tried is given a point that was not


@dataclass(frozen=True)
class Plan:
    """What is known of a study's draws before it begins.

    order: every point of a space that can be listed, shuffled by the seed; else empty. given: how many of the first
    trials take theirs from it: all but those that tpe draws. limit: as many trials as there are points, if listed.
    """

    order: Sequence[Point]
    given: int
    limit: int | None


def plan_of(space: Space, search: SearchConfig) -> Plan:
    """Plan a study: random and grid go through the shuffled points, tpe does so until it has seen enough."""
    if space.lr is not None or space.points > LARGEST_GRID:
        return Plan((), 0, None)
    order = grid(space, search.seed)
    given = search.startup_trials if search.sampler == "tpe" else len(order)
    return Plan(order, given, len(order))


class Halving(SuccessiveHalvingPruner):
    """Successive halving in which an attempt that failed does not compete: the next attempt at its trial does."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return super().prune(cast("Study", _WithoutFailures(study)), trial)


class _WithoutFailures:
    """A study that shows its pruner no failed trial."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def get_trials(self, deepcopy: bool = True) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy) if trial.state != TrialState.FAIL]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


class FreshTPE(TPESampler):
    """TPE that draws no point a second time, and none without a branch at some level."""

    def __init__(self, seed: int, startup_trials: int, order: Sequence[Point]) -> None:
        super().__init__(seed=seed, n_startup_trials=startup_trials, multivariate=True, constant_liar=True)
        self._order = order

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw; and again while the point is none to try."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {_key(other.system_attrs.get("fixed_params") or other.params) for other in others}
        for _ in range(REDRAWS):
            point = super().sample_relative(study, trial, search_space)
            if not point or not (_key(point) in tried or bare_levels(point)):
                return point
        return dict(next((fresh for fresh in self._order if _key(fresh) not in tried), point))


def sampler_of(search: SearchConfig, plan: Plan, index: int) -> BaseSampler:
    """The sampler of one trial of the study's budget (`index` from 0).

    Its random numbers come from the study's seed and the index: workers never draw the same, and a study draws the
    same whoever works on it (tpe: as far as the same trials have ended before).
    """
    digest = hashlib.sha256(f"{search.seed}/{index}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    return FreshTPE(seed, search.startup_trials, plan.order) if search.sampler == "tpe" else RandomSampler(seed=seed)


def _key(point: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(point.items())


def pruner_of(search: SearchConfig) -> BasePruner:
    """The rule that stops a trial after an epoch; epochs count from 1.

    halving: epochs spared, 3 x spared, 9 x spared ... are rungs, which a third of the trials survives (asynchronous
    successive halving, Li et al. 2020). median: a trial stops when its best IoU is under the median of the others'
    at that epoch.
    """
    if search.pruner == "halving":
        return Halving(min_resource=search.spared_epochs, reduction_factor=REDUCTION)
    if search.pruner == "median":
        return MedianPruner(n_startup_trials=search.startup_trials, n_warmup_steps=search.spared_epochs)
    return NopPruner()
