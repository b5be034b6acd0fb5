"""Measure masks in separate processes, while the network runs. No torch here, so that such a process starts fast."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

import numpy as np

from mnsa.errors import RunError
from mnsa.traits import TraitMeasurer

Measure = Callable[[np.ndarray], dict[str, str]]

_FEW_IMAGES = 16  # images that are measured sooner than a process begins


@contextmanager
def measurement_pool(measurer: TraitMeasurer, *, images: int, processes: int) -> Iterator[Measure]:
    """What measures as `TraitMeasurer.measure_row` does; threads may call it at once.

    Measuring is Python for the most part: in a thread it would stop the network's thread again and again. No process
    outlives the one that began it, however that ended. Raises: RunError when a process is killed.
    """
    if images <= _FEW_IMAGES:
        yield measurer.measure_row
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_init_worker)

    def measure(mask: np.ndarray) -> dict[str, str]:
        try:
            return pool.submit(measurer.measure_row, mask).result()
        except BrokenProcessPool:
            raise RunError(
                "A process that measured traits was killed, most likely for want of memory. "
                "What is finished stays; the same command goes on from there."
            ) from None

    try:
        yield measure
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker() -> None:
    """Ctrl-C is for the parent, which ends its children itself; one that is killed can't."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)
