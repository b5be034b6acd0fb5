"""Measure masks in separate processes while the network runs.

This module does not import torch: processes start fast.
"""

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

_FEW_IMAGES = 16  # measuring so few images takes less time than the start of a process


@contextmanager
def measurement_pool(measurer: TraitMeasurer, *, images: int, processes: int) -> Iterator[Measure]:
    """Give a function like `TraitMeasurer.measure_row` that runs in a pool of processes; it is thread-safe.

    Measuring is mostly Python code: in a thread it would block the network's thread. The processes end with their
    parent process, even if it is killed. Raises: RunError when a process of the pool is killed.
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
                "A process that measured traits was killed, most likely because memory ran out. "
                "Finished results are kept; run the same command again to continue."
            ) from None

    try:
        yield measure
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker() -> None:
    """Ignore Ctrl-C, as the parent process ends the pool; exit when the parent process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)
