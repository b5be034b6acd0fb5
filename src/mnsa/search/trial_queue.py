"""Which trial comes next. The storage is the only memory: whoever dies, whenever, the others find what is to be done.

A study has a budget of trials, each with an index from 0, and up to three attempts at each. An attempt is an Optuna
trial that bears its index; a trial is settled when one of its attempts was completed or pruned, or the last one failed.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnsa.search.heartbeat import WORKER, Watch, me
from mnsa.search.lock import locked
from mnsa.search.sampling import Plan
from mnsa.search.storage import patiently

INDEX, REASON, INTERRUPTED = "index", "reason", "interrupted"  # user attributes of a trial
BUDGET = "budget"  # user attribute of the study
MAX_RETRIES = 2
SETTLED = (TrialState.COMPLETE, TrialState.PRUNED)
OPEN = (TrialState.WAITING, TrialState.RUNNING)


class Queue:
    """Hands out trials."""

    def __init__(self, study: optuna.Study, lock: Path, watch: Watch, plan: Plan) -> None:
        self._study, self._lock, self._watch, self._plan = study, lock, watch, plan

    @property
    def budget(self) -> int:
        """How many trials the study is to have: no more than its space has points."""
        wanted = int(self._study.user_attrs.get(BUDGET, 0))
        return wanted if self._plan.limit is None else min(wanted, self._plan.limit)

    def raise_budget(self, trials: int) -> None:
        """Let the study have more trials than before."""
        with locked(self._lock):
            self._study.set_user_attr(BUDGET, max(trials, int(self._study.user_attrs.get(BUDGET, 0))))

    def claim(self) -> optuna.Trial | None:
        """Take the next trial, which is then running; None when all that are left are run by others, or none is."""
        with locked(self._lock):
            self._free_the_dead()
            self._fill()
            if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return None
            trial = self._study.ask()
            note(self._study, trial, WORKER, me())
            return trial

    def tell(
        self, trial: optuna.Trial | FrozenTrial, state: TrialState, values: Sequence[float] | None = None
    ) -> FrozenTrial:
        """End a trial, unless another worker has freed it meanwhile. Returns: what the storage now says of it."""
        with locked(self._lock):
            return self._study.tell(trial.number, values, state, skip_if_finished=True)

    def unsettled(self) -> int:
        """How many trials of the budget are still to be settled."""
        families = _families(self._study.get_trials(deepcopy=False))
        return sum(not _is_settled(families[index]) for index in range(self.budget))

    def _free_the_dead(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if reason := self._watch.death_of(trial):
                note(self._study, trial, REASON, reason)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _fill(self) -> None:
        """Put every trial of the budget into the queue that is neither there nor running nor settled."""
        families = _families(self._study.get_trials(deepcopy=False))
        for index in range(self.budget):
            attempts = families[index]
            if _is_settled(attempts) or any(attempt.state in OPEN for attempt in attempts):
                continue
            drawn = attempts[-1].params if attempts else {}
            point = self._plan.order[index] if index < self._plan.given else drawn
            self._study.enqueue_trial(dict(point), user_attrs={INDEX: index})


def note(study: optuna.Study, trial: optuna.Trial | FrozenTrial, name: str, value: object) -> None:
    """Write a user attribute of a trial that has not ended, whichever of Optuna's two kinds of trial it is."""
    # FrozenTrial has no public way.
    patiently(lambda: study._storage.set_trial_user_attr(trial._trial_id, name, value))


def _families(trials: Sequence[FrozenTrial]) -> defaultdict[int, list[FrozenTrial]]:
    """The attempts at each trial, in their order."""
    families: defaultdict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if INDEX in trial.user_attrs:
            families[trial.user_attrs[INDEX]].append(trial)
    return families


def _is_settled(attempts: Sequence[FrozenTrial]) -> bool:
    if any(attempt.state in SETTLED for attempt in attempts):
        return True
    failed = [attempt for attempt in attempts if attempt.state == TrialState.FAIL]
    return sum(INTERRUPTED not in attempt.user_attrs for attempt in failed) > MAX_RETRIES
