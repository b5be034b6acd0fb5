"""A file lock between processes, on one machine or on several that share a disk."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.2


@contextmanager
def file_lock(file: Path, *, waiting: str = "") -> Iterator[None]:
    """Hold the lock of `file`; `waiting` is printed once when another process has it.

    The kernel holds the lock, so one whose process was killed is free at once: no lock can be left behind.
    """
    with file.open("a") as handle:
        while not _try_lock(handle.fileno()):
            if waiting:
                print(waiting, flush=True)  # noqa: T201
                waiting = ""
            time.sleep(POLL_S)
        yield  # closing the file frees the lock


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
