"""The queue of trials, and the heartbeats of the workers that run them.

A study has a budget of trials, each with an index from 0, and up to three attempts per trial. An attempt is an Optuna
trial with that index. A trial is finished when one attempt is complete or pruned, or when the last attempt failed.
The storage is the only memory: when a worker dies, the other workers find its trial and queue it again.
Heartbeats are user attributes of the trial, so every storage supports them. Optuna's own heartbeat works with
databases only, not with journal files or the gRPC proxy.
"""

import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mnsa.io import lock
from mnsa.search.sampling import SamplingPlan
from mnsa.search.storage import with_retries

# User attributes of an Optuna trial.
WORKER_ATTR, HEARTBEAT_ATTR = "worker", "beat"
INDEX_ATTR, REASON_ATTR, INTERRUPTED_ATTR = "index", "reason", "interrupted"

BUDGET_ATTR = "budget"  # user attribute of an Optuna study

MAX_MISSED_HEARTBEATS = 6  # a worker that missed more in a row is dead

MAX_RETRIES = 2

FINISHED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)

ACTIVE_STATES = (TrialState.WAITING, TrialState.RUNNING)


def worker_identity() -> dict[str, Any]:
    """Describe this process so that others can recognize it: host, pid namespace, pid and start time."""
    pid = os.getpid()
    return {"host": platform.node(), "pid_namespace": _pid_namespace(), "pid": pid, "started": _process_start_time(pid)}


class Heartbeat:
    """Context manager that writes the time to a trial again and again, in a thread."""

    def __init__(self, storage: BaseStorage, trial_id: int, interval_s: float) -> None:
        self._storage, self._trial_id, self._interval_s = storage, trial_id, interval_s
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop_event.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._storage.set_trial_user_attr(self._trial_id, HEARTBEAT_ATTR, time.time())
            except UpdateFinishedTrialError:  # another worker declared this one dead
                break
            except Exception:  # noqa: S110 - the storage may work again at the next heartbeat
                pass
            if self._stop_event.wait(self._interval_s):
                break
        self._storage.remove_session()  # a database connection belongs to its thread


class LivenessMonitor:
    """Finds running trials whose worker is dead. Only changes of a heartbeat count, so clocks may differ."""

    def __init__(self, interval_s: float) -> None:
        self._timeout_s = MAX_MISSED_HEARTBEATS * interval_s
        self._last_seen: dict[int, tuple[float | None, float]] = {}  # trial number -> heartbeat, time it changed

    def death_reason(self, trial: FrozenTrial) -> str:
        """Return why the worker of a running trial is dead; empty if it may be alive."""
        worker, heartbeat = trial.user_attrs.get(WORKER_ATTR), trial.user_attrs.get(HEARTBEAT_ATTR)
        name = f"process {worker['pid']} on {worker['host']}" if worker else "its worker"
        if worker and _has_ended(worker):
            return f"{name} died"
        now = time.monotonic()
        last, since = self._last_seen.get(trial.number, (None, now))
        if last != heartbeat or trial.number not in self._last_seen:
            self._last_seen[trial.number] = (heartbeat, now)
            return ""
        return f"{name} was silent for {now - since:.0f} s" if now - since > self._timeout_s else ""


class TrialQueue:
    """Assigns the trials of a study to workers.

    lock_file: locked by the process that changes the queue.
    """

    def __init__(
        self, study: optuna.Study, lock_file: Path, liveness: LivenessMonitor, plan: SamplingPlan
    ) -> None:  # fmt: skip
        self._study, self._lock_file, self._liveness, self._plan = study, lock_file, liveness, plan

    @property
    def budget(self) -> int:
        """The number of trials that the study will have; at most the number of points."""
        budget = int(self._study.user_attrs.get(BUDGET_ATTR, 0))
        return budget if self._plan.max_trials is None else min(budget, self._plan.max_trials)

    def increase_budget(self, trials: int) -> None:
        """Set a higher number of trials; a lower one changes nothing."""
        with lock(self._lock_file):
            budget = max(trials, int(self._study.user_attrs.get(BUDGET_ATTR, 0)))
            self._study.set_user_attr(BUDGET_ATTR, budget)

    def claim(self) -> optuna.Trial | None:
        """Take the next waiting trial and mark it as running; None if no trial is waiting."""
        with lock(self._lock_file):
            self._fail_dead_trials()
            self._enqueue_missing()
            if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return None
            trial = self._study.ask()
            set_trial_attr(self._study, trial, WORKER_ATTR, worker_identity())
            return trial

    def finish(
        self, trial: optuna.Trial | FrozenTrial, state: TrialState, values: Sequence[float] | None = None
    ) -> FrozenTrial:
        """End a trial, unless another worker has already failed it. Returns: the trial as the storage has it."""
        with lock(self._lock_file):
            return self._study.tell(trial.number, values, state, skip_if_finished=True)

    def count_unfinished(self) -> int:
        """Count the trials of the budget that are not finished."""
        attempts_by_index = _attempts_by_index(self._study.get_trials(deepcopy=False))
        return sum(not _is_finished(attempts_by_index[index]) for index in range(self.budget))

    def _fail_dead_trials(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if reason := self._liveness.death_reason(trial):
                set_trial_attr(self._study, trial, REASON_ATTR, reason)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _enqueue_missing(self) -> None:
        """Enqueue the trials of the budget that are not finished, waiting or running."""
        attempts_by_index = _attempts_by_index(self._study.get_trials(deepcopy=False))
        for index in range(self.budget):
            attempts = attempts_by_index[index]
            if _is_finished(attempts) or any(attempt.state in ACTIVE_STATES for attempt in attempts):
                continue
            earlier_point = attempts[-1].params if attempts else {}
            point = self._plan.points[index] if index < self._plan.num_listed else earlier_point
            self._study.enqueue_trial(dict(point), user_attrs={INDEX_ATTR: index})


def set_trial_attr(study: optuna.Study, trial: optuna.Trial | FrozenTrial, name: str, value: object) -> None:
    """Set a user attribute of a trial that has not ended, of either of Optuna's two trial classes."""
    # FrozenTrial has no public method for this.
    with_retries(lambda: study._storage.set_trial_user_attr(trial._trial_id, name, value))


def _has_ended(worker: dict[str, Any]) -> bool:
    """Return whether a worker on this machine has ended; False on other machines, and without /proc."""
    namespace = _pid_namespace()
    if not namespace or worker["pid_namespace"] != namespace:
        return False
    return _process_start_time(worker["pid"]) != str(worker["started"])


def _pid_namespace() -> str:
    """Identify where a pid is unique: this boot of this machine, and this container; empty without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_start_time(pid: int) -> str:
    """Return when a process started, in kernel ticks; empty for a process that has ended, and without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _attempts_by_index(trials: Sequence[FrozenTrial]) -> defaultdict[int, list[FrozenTrial]]:
    """Group the attempts by trial, in their order."""
    attempts_by_index: defaultdict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if INDEX_ATTR in trial.user_attrs:
            attempts_by_index[trial.user_attrs[INDEX_ATTR]].append(trial)
    return attempts_by_index


def _is_finished(attempts: Sequence[FrozenTrial]) -> bool:
    if any(attempt.state in FINISHED_STATES for attempt in attempts):
        return True
    failed = [attempt for attempt in attempts if attempt.state == TrialState.FAIL]
    return sum(INTERRUPTED_ATTR not in attempt.user_attrs for attempt in failed) > MAX_RETRIES
