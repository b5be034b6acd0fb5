"""Stop on a signal: SIGINT (Ctrl-C), SIGTERM (a scheduler) or SIGHUP (the terminal was closed)."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mnsa.errors import ConfigError

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
)
_AGAIN_S = 0.5
_ONE_STOP_S = 0.5  # a scheduler signals a process and then its group: both are one request


class StopSignal(BaseException):
    """A signal that asks the process to stop; no error, like KeyboardInterrupt. exit_code: 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class _State:
    """What has arrived. There is one, because a process has one handler for a signal."""

    number: int | None = None
    time_s = 0.0
    shields = 0  # blocks of `shielded`; of these, `limited` have a limit
    limited = 0
    limit_s = 0.0
    pid = 0
    handler: Any = None  # of SIGALRM, before the timer of a limit was set


_state = _State()


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise StopSignal in the main thread for the first signal; a second one ends the process at once.

    Signals that the process ignores, such as SIGHUP under `nohup`, stay ignored. In other threads, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    nested = _handle in before.values()
    if not nested:
        _state.number, _state.shields, _state.limited, _state.pid = None, 0, 0, os.getpid()
    try:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, _handle)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # see `blocked_signals`
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        if not nested:
            _cancel_timer()
            _state.number = None


@contextmanager
def shielded(*, limit_s: float = 0.0) -> Iterator[None]:
    """Let a block, such as a save, end before a signal stops the process.

    limit_s: stop within the block if it goes on for so long after the signal, but not within a block without a limit,
    and not on Windows. 0: no limit.
    """
    _state.shields += 1
    _state.limited += bool(limit_s)
    _state.limit_s = limit_s or _state.limit_s
    try:
        yield
    finally:
        _state.shields -= 1
        _state.limited -= bool(limit_s)
    if not _state.shields:
        raise_if_stopped()


def raise_if_stopped() -> None:
    """Raise StopSignal if a signal has arrived: in a shielded block, or where Python had to swallow an exception."""
    if (number := stop_number()) is not None:
        _cancel_timer()
        raise StopSignal(number)


def stop_number() -> int | None:
    """Return the number of the signal that has arrived; None if none has."""
    return _state.number if _state.pid == os.getpid() else None


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Start processes in this block to keep signals from them until they enter `stop_signals`, where they arrive."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_rank_zero() -> bool:
    """Check whether this process speaks and writes: the only one, or the first of those that train together."""
    return environment_number("RANK", "LOCAL_RANK", default=0) == 0


def environment_number(*names: str, default: int) -> int:
    """Read the first of these environment variables that is set. Raises: ConfigError unless it is a whole number."""
    for name in names:
        if (text := os.environ.get(name)) is not None:
            if not (text.isascii() and text.isdecimal()):
                raise ConfigError(
                    f"{name} is {text!r}; expected a whole number, as torchrun sets it. Remove it: unset {name}"
                )
            return int(text)
    return default


def _handle(number: int, _frame: FrameType | None) -> None:
    if os.getpid() != _state.pid:
        return  # a process that was forked, such as one that loads images: the first process stops it
    now = time.monotonic()
    if _state.number is None:
        _state.number, _state.time_s = number, now
        if not _state.shields:
            raise StopSignal(number)
        if _state.limited and hasattr(signal, "setitimer"):
            _state.handler = signal.signal(signal.SIGALRM, _end_block)
            signal.setitimer(signal.ITIMER_REAL, _state.limit_s, _AGAIN_S)
    elif now - _state.time_s > _ONE_STOP_S:
        os.write(2, f"\nEnded at once by a second signal ({signal.Signals(number).name}).\n".encode())
        os._exit(128 + number)


def _end_block(_number: int, _frame: FrameType | None) -> None:
    """Stop within blocks that have a limit; in one without, the timer comes again."""
    if _state.shields == _state.limited:
        raise_if_stopped()


def _cancel_timer() -> None:
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _end_block:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _state.handler)
