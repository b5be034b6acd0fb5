"""Signs of life: who is dead is found out, who lives is left alone."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mnsa.search.trial_queue import (
    HEARTBEAT_ATTR,
    WORKER_ATTR,
    Heartbeat,
    LivenessMonitor,
    set_trial_attr,
    worker_identity,
)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that tests turn."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr("mnsa.search.trial_queue.time.monotonic", lambda: now.s)
    return now


def running(study: optuna.Study, worker: Any = None, beat: Any = None) -> FrozenTrial:
    """A running trial as a watch sees it."""
    trial = study.ask()
    if worker:
        set_trial_attr(study, trial, WORKER_ATTR, worker)
    if beat:
        set_trial_attr(study, trial, HEARTBEAT_ATTR, beat)
    return study.get_trials()[trial.number]


def elsewhere(**changes: Any) -> dict[str, Any]:
    return {"host": "oak", "pid_namespace": "another boot", "pid": os.getpid(), "started": "1", **changes}


def test_heartbeats_are_written_only_while_a_trial_runs(study: optuna.Study) -> None:
    trial = study.ask()
    with Heartbeat(study._storage, trial._trial_id, interval_s=0.01):
        beats: set[Any] = set()
        while len(beats) < 3:
            beats.add(study.get_trials()[0].user_attrs.get(HEARTBEAT_ATTR))
            time.sleep(0.005)
    last = study.get_trials()[0].user_attrs[HEARTBEAT_ATTR]
    time.sleep(0.05)
    assert study.get_trials()[0].user_attrs[HEARTBEAT_ATTR] == last


def test_heartbeats_end_when_another_worker_failed_the_trial(study: optuna.Study) -> None:
    trial = study.ask()
    with Heartbeat(study._storage, trial._trial_id, interval_s=0.01) as beating:
        study.tell(trial, state=TrialState.FAIL)
        beating._thread.join(timeout=5)
        assert not beating._thread.is_alive()


def test_heartbeats_continue_after_storage_errors(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, write, failures = study.ask(), study._storage.set_trial_user_attr, iter([True, True])

    def flaky(trial_id: Any, name: str, value: Any) -> None:
        if name == HEARTBEAT_ATTR and next(failures, False):
            raise OSError("no route to host")
        write(trial_id, name, value)

    monkeypatch.setattr(study._storage, "set_trial_user_attr", flaky)
    with Heartbeat(study._storage, trial._trial_id, interval_s=0.01):
        while HEARTBEAT_ATTR not in study.get_trials()[0].user_attrs:
            time.sleep(0.005)


def test_ended_process_on_this_machine_is_dead_at_once(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: process.pid)
        worker = worker_identity()
    trial = running(study, worker, beat=1.0)
    assert LivenessMonitor(20).death_reason(trial) == ""
    process.communicate(b"\n")
    assert LivenessMonitor(20).death_reason(trial) == f"process {process.pid} on {worker['host']} died"


def test_other_process_with_the_same_pid_is_not_the_worker(study: optuna.Study) -> None:
    assert (
        LivenessMonitor(20)
        .death_reason(running(study, {**worker_identity(), "started": "1"}, beat=1.0))
        .endswith("died")
    )


def test_living_worker_with_heartbeats_is_not_dead(study: optuna.Study, clock: SimpleNamespace) -> None:
    watch, trial = LivenessMonitor(20), running(study, worker_identity(), beat=1.0)
    for beat in range(20):
        set_trial_attr(study, trial, HEARTBEAT_ATTR, float(beat))
        assert watch.death_reason(study.get_trials()[0]) == ""
        clock.s += 100


def test_worker_elsewhere_is_dead_after_six_missed_heartbeats_by_the_own_clock(
    study: optuna.Study, clock: SimpleNamespace
) -> None:
    watch = LivenessMonitor(20)
    trial = running(study, elsewhere(), beat=5e9)  # its clock is decades ahead
    assert watch.death_reason(trial) == ""
    clock.s += 119
    assert watch.death_reason(trial) == ""
    clock.s += 2
    assert watch.death_reason(trial) == f"process {os.getpid()} on oak was silent for 121 s"


def test_heartbeat_restarts_the_timeout(study: optuna.Study, clock: SimpleNamespace) -> None:
    watch, trial = LivenessMonitor(20), running(study, elsewhere(), beat=1.0)
    watch.death_reason(trial)
    clock.s += 100
    set_trial_attr(study, trial, HEARTBEAT_ATTR, 2.0)
    assert watch.death_reason(study.get_trials()[0]) == ""
    clock.s += 100
    assert watch.death_reason(study.get_trials()[0]) == ""


def test_worker_that_died_before_its_first_heartbeat_is_found(study: optuna.Study, clock: SimpleNamespace) -> None:
    watch, trial = LivenessMonitor(20), running(study)
    assert watch.death_reason(trial) == ""
    clock.s += 121
    assert watch.death_reason(trial) == "its worker was silent for 121 s"
