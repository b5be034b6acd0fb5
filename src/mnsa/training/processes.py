"""Several processes that train one network: they stop together, and none waits for one that is gone.

The first process starts the others (`--devices`), or torchrun starts all of them. A signal to any of them is told to
all between two steps, so all leave at the same place. A process that is killed breaks the connections of the others;
where that takes too long, a thread of each process ends it.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import distributed

from mnsa.errors import MnsaError, RunError, TrainingInterruptedError
from mnsa.signals import STOP_SIGNALS, StopSignal, blocked_signals, environment_number

_FIRST_PROCESS = "MNSA_FIRST_PROCESS"  # environment variable: id of the process that has started this one
_GRACE_S = 15.0  # until a process that still waits for one that is gone is ended
_WAIT_S = 5.0  # for the end of the process whose connection was lost
_POLL_S = 0.2
_LOST = re.compile(r"gloo|NCCL|Connection (closed|reset)|Broken pipe", re.IGNORECASE)

_started = list[subprocess.Popen[bytes]]()  # by this process


def count_processes(devices: int) -> int:
    """Return the number of processes that train together. devices: of this machine. Raises: ConfigError."""
    return max(devices, environment_number("WORLD_SIZE", default=1))


class WatchedDDPStrategy(DDPStrategy):
    """Lightning's DDP, without its way to end processes: it kills the first one too, without a word."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None  # noqa: S101
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_environment(self) -> None:
        _watch.start()
        super().setup_environment()


class _Launcher(_SubprocessScriptLauncher):
    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:  # noqa: ARG002
        if not self.cluster_environment.creates_processes_externally:
            os.environ[_FIRST_PROCESS] = str(os.getpid())
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no stack of C++ for a connection that was lost
            with blocked_signals():  # they have no handlers yet, and get what arrives when they have
                self._call_children_scripts()
            _started[:] = self.procs
        return function(*args, **kwargs)


@contextmanager
def lost_processes(run: Path) -> Iterator[None]:
    """Raise the loss of another process as an error of one paragraph. Leave no process behind after an error.

    Raises: RunError; TrainingInterruptedError when the other process was stopped by a signal.
    """
    _watch.run, wait_s = run, 0.0
    try:
        yield
        wait_s = _WAIT_S
    except (StopSignal, TrainingInterruptedError):
        wait_s = _WAIT_S  # the others end in the same way
        raise
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or _LOST.search(str(error)):
            raise _describe_loss(run) from None
        raise
    finally:
        _watch.stop()
        _end_started(wait_s)


def _describe_loss(run: Path) -> MnsaError:
    """Say which process is gone. Where another process says it, this one ends silently. Raises: SystemExit."""
    end = time.monotonic() + _WAIT_S
    if _FIRST_PROCESS in os.environ and not _started:
        while time.monotonic() < end:
            if not _first_process_lives():
                return RunError(f"The first process of this training was killed. {_hint(run)}")
            time.sleep(_POLL_S)
        raise SystemExit(RunError.exit_code)
    while _started and time.monotonic() < end:
        if (error := _describe_ended(run)) is not None:
            return error
        time.sleep(_POLL_S)
    return RunError(f"Another process of this training has ended. {_hint(run)}")


def _describe_ended(run: Path) -> MnsaError | None:
    """Say how a process that this one has started has ended; None while there is none that failed."""
    for rank, process in enumerate(_started, 1):
        code = process.poll()
        if not code:
            continue
        number = -code if code < 0 else code - 128
        if number in STOP_SIGNALS:
            name = signal.Signals(number).name
            return TrainingInterruptedError(f"Interrupted ({name}, process {rank}). {_hint(run)}", 128 + number)
        how = f"was killed ({signal.Signals(number).name})" if code < 0 else f"has ended with exit code {code}"
        return RunError(f"Process {rank} of this training {how}, and so the others end. {_hint(run)}")
    return None


def _hint(run: Path) -> str:
    return f"Complete epochs are saved. Continue with: mnsa train --resume {run}"


def _first_process_lives() -> bool:
    return os.getppid() == int(os.environ[_FIRST_PROCESS])


def _end_started(wait_s: float) -> None:
    """Kill the processes that this one has started, if they don't end by themselves: they write nothing."""
    end = time.monotonic() + wait_s
    for process in _started:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
        process.kill()
        process.wait()
    _started.clear()


class _Watch:
    """A thread that ends this process when another one is gone and the main thread doesn't notice it."""

    run = Path()

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None and _FIRST_PROCESS in os.environ:
            self._ended.clear()
            self._thread = threading.Thread(target=self._watch, name="other processes", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread = None

    def _watch(self) -> None:
        ended, is_first = self._ended, bool(_started)
        while not (_describe_ended(self.run) if is_first else not _first_process_lives()):
            if ended.wait(_POLL_S):
                return
        if ended.wait(_GRACE_S):
            return
        error = _describe_ended(self.run) if is_first else _describe_loss(self.run)
        os.write(2, f"Error: {error}\n".encode())
        for process in _started:
            process.kill()
        os._exit(error.exit_code if error else RunError.exit_code)


_watch = _Watch()
