"""Signs of life: a worker tells that it lives while it trains, and others see when it no longer does.

Beats are user attributes of the trial, so that every storage carries them: Optuna's own heartbeat is for databases
alone, not for journal files and not through the gRPC proxy.
"""

import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

WORKER, BEAT = "worker", "beat"  # user attributes of a trial
BEATS_MISSED = 6  # this many in a row: dead


def me() -> dict[str, Any]:
    """Name this process, as others can recognise it: place (one that numbers processes), pid and when it started."""
    pid = os.getpid()
    return {"host": platform.node(), "place": _place(), "pid": pid, "started": _started(pid)}


class Heartbeat:
    """Beats for a trial while the `with` lasts."""

    def __init__(self, storage: BaseStorage, trial_id: int, every_s: float) -> None:
        self._storage, self._trial_id, self._every_s = storage, trial_id, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while True:
            try:
                self._storage.set_trial_user_attr(self._trial_id, BEAT, time.time())
            except UpdateFinishedTrialError:  # others took this worker for dead
                break
            except Exception:  # noqa: S110 - whatever ails the storage, the next beat may get through
                pass
            if self._over.wait(self._every_s):
                break
        self._storage.remove_session()  # a database connection belongs to its thread


class Watch:
    """Tells which running trials have lost their worker. Only changes count, so that clocks need not agree."""

    def __init__(self, every_s: float) -> None:
        self._grace_s = BEATS_MISSED * every_s
        self._seen: dict[int, tuple[float | None, float]] = {}  # trial number -> its last beat, and when it was new

    def death_of(self, trial: FrozenTrial) -> str:
        """Why a running trial has no worker any more; empty while it may have one."""
        worker, beat = trial.user_attrs.get(WORKER), trial.user_attrs.get(BEAT)
        name = f"process {worker['pid']} on {worker['host']}" if worker else "its worker"
        if worker and worker["place"] == _place() and _started(worker["pid"]) != worker["started"]:
            return f"{name} died"
        now = time.monotonic()
        last, since = self._seen.get(trial.number, (None, now))
        if last != beat or trial.number not in self._seen:
            self._seen[trial.number] = (beat, now)
            return ""
        return f"{name} was silent for {now - since:.0f} s" if now - since > self._grace_s else ""


def _place() -> str:
    """Where a pid means one process: this boot of this machine, and this container's own numbering."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for one that has ended, reaped or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
