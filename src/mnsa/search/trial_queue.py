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

WORKER, BEAT = "worker", "beat"  # user attributes of a trial

MAX_MISSED_BEATS = 6  # this many in a row: dead


def worker_identity() -> dict[str, Any]:
    """Name this process, as others can recognize it: host, pid namespace, pid and start time."""
    pid = os.getpid()
    return {"host": platform.node(), "pid_namespace": _pid_namespace(), "pid": pid, "started": _process_start_time(pid)}


class Heartbeat:
    """Beats for a trial while the `with` lasts."""

    def __init__(self, storage: BaseStorage, trial_id: int, interval_s: float) -> None:
        self._storage, self._trial_id, self._every_s = storage, trial_id, interval_s
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop_event.set()
        self._thread.join()

    def _beat(self) -> None:
        while True:
            try:
                self._storage.set_trial_user_attr(self._trial_id, BEAT, time.time())
            except UpdateFinishedTrialError:  # others took this worker for dead
                break
            except Exception:  # noqa: S110 - whatever ails the storage, the next beat may get through
                pass
            if self._stop_event.wait(self._every_s):
                break
        self._storage.remove_session()  # a database connection belongs to its thread


class LivenessMonitor:
    """Tells which running trials have lost their worker. Only changes count, so that clocks need not agree."""

    def __init__(self, interval_s: float) -> None:
        self._grace_s = MAX_MISSED_BEATS * interval_s
        self._seen: dict[int, tuple[float | None, float]] = {}  # trial number -> its last beat, and when it was new

    def death_reason(self, trial: FrozenTrial) -> str:
        """Why a running trial has no worker any more; empty while it may have one."""
        worker, beat = trial.user_attrs.get(WORKER), trial.user_attrs.get(BEAT)
        name = f"process {worker['pid']} on {worker['host']}" if worker else "its worker"
        if (
            worker
            and worker["pid_namespace"] == _pid_namespace()
            and _process_start_time(worker["pid"]) != worker["started"]
        ):
            return f"{name} died"
        now = time.monotonic()
        last, since = self._seen.get(trial.number, (None, now))
        if last != beat or trial.number not in self._seen:
            self._seen[trial.number] = (beat, now)
            return ""
        return f"{name} was silent for {now - since:.0f} s" if now - since > self._grace_s else ""


def _pid_namespace() -> str:
    """Where a pid means one process: this boot of this machine, and this container's own numbering."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for one that has ended, reaped or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


INDEX, REASON, INTERRUPTED = "index", "reason", "interrupted"  # user attributes of a trial

BUDGET = "budget"  # user attribute of the study

MAX_RETRIES = 2

FINISHED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)

ACTIVE_STATES = (TrialState.WAITING, TrialState.RUNNING)


class TrialQueue:
    """Hands out trials."""

    def __init__(self, study: optuna.Study, lock_file: Path, watch: LivenessMonitor, plan: SamplingPlan) -> None:
        self._study, self._lock_file, self._watch, self._plan = study, lock_file, watch, plan

    @property
    def budget(self) -> int:
        """How many trials the study is to have: no more than its space has points."""
        wanted = int(self._study.user_attrs.get(BUDGET, 0))
        return wanted if self._plan.max_trials is None else min(wanted, self._plan.max_trials)

    def increase_budget(self, trials: int) -> None:
        """Let the study have more trials than before."""
        with lock(self._lock_file):
            self._study.set_user_attr(BUDGET, max(trials, int(self._study.user_attrs.get(BUDGET, 0))))

    def claim(self) -> optuna.Trial | None:
        """Take the next trial, which is then running; None when all that are left are run by others, or none is."""
        with lock(self._lock_file):
            self._fail_dead_trials()
            self._enqueue_missing()
            if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return None
            trial = self._study.ask()
            set_trial_attr(self._study, trial, WORKER, worker_identity())
            return trial

    def tell(
        self, trial: optuna.Trial | FrozenTrial, state: TrialState, values: Sequence[float] | None = None
    ) -> FrozenTrial:
        """End a trial, unless another worker has freed it meanwhile. Returns: what the storage now says of it."""
        with lock(self._lock_file):
            return self._study.tell(trial.number, values, state, skip_if_finished=True)

    def count_unfinished(self) -> int:
        """How many trials of the budget are still to be settled."""
        attempts_by_index = _attempts_by_index(self._study.get_trials(deepcopy=False))
        return sum(not _is_finished(attempts_by_index[index]) for index in range(self.budget))

    def _fail_dead_trials(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if reason := self._watch.death_reason(trial):
                set_trial_attr(self._study, trial, REASON, reason)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _enqueue_missing(self) -> None:
        """Put every trial of the budget into the queue that is neither there nor running nor settled."""
        attempts_by_index = _attempts_by_index(self._study.get_trials(deepcopy=False))
        for index in range(self.budget):
            attempts = attempts_by_index[index]
            if _is_finished(attempts) or any(attempt.state in ACTIVE_STATES for attempt in attempts):
                continue
            drawn = attempts[-1].params if attempts else {}
            point = self._plan.points[index] if index < self._plan.num_listed else drawn
            self._study.enqueue_trial(dict(point), user_attrs={INDEX: index})


def set_trial_attr(study: optuna.Study, trial: optuna.Trial | FrozenTrial, name: str, value: object) -> None:
    """Write a user attribute of a trial that has not ended, whichever of Optuna's two kinds of trial it is."""
    # FrozenTrial has no public way.
    with_retries(lambda: study._storage.set_trial_user_attr(trial._trial_id, name, value))


def _attempts_by_index(trials: Sequence[FrozenTrial]) -> defaultdict[int, list[FrozenTrial]]:
    """The attempts at each trial, in their order."""
    attempts_by_index: defaultdict[int, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if INDEX in trial.user_attrs:
            attempts_by_index[trial.user_attrs[INDEX]].append(trial)
    return attempts_by_index


def _is_finished(attempts: Sequence[FrozenTrial]) -> bool:
    if any(attempt.state in FINISHED_STATES for attempt in attempts):
        return True
    failed = [attempt for attempt in attempts if attempt.state == TrialState.FAIL]
    return sum(INTERRUPTED not in attempt.user_attrs for attempt in failed) > MAX_RETRIES
