"""Masks are measured in other processes as in this one, and those processes end with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mnsa.errors import RunError
from mnsa.traits import TraitMeasurer, find_roles
from mnsa.traits.process_pool import measurement_pool

MEASURER = TraitMeasurer(find_roles(["vein"]), px_per_mm=4.0)
BEGIN = """
import os, numpy as np
from multiprocessing import active_children
from mnsa.traits.process_pool import measurement_pool
from mnsa.traits import TraitMeasurer, find_roles
if __name__ == "__main__":
    with measurement_pool(TraitMeasurer(find_roles(["vein"])), images=100, processes=1) as measure:
        measure(np.zeros((9, 9), np.uint8))
        print(*(child.pid for child in active_children()), flush=True)
        os.kill(os.getpid(), 9)
"""


def cross(size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[size // 2 - 1 : size // 2 + 2] = mask[:, size // 2 - 1 : size // 2 + 2] = 1
    return mask


def test_few_images_are_measured_without_a_pool() -> None:
    with measurement_pool(MEASURER, images=3, processes=2) as measure:
        assert measure(cross(40)) == MEASURER.measure_row(cross(40))
        assert measure == MEASURER.measure_row


@pytest.mark.slow
def test_a_pool_measures_the_same_and_a_killed_process_is_an_error() -> None:
    with measurement_pool(MEASURER, images=100, processes=1) as measure:
        assert measure(cross(40)) == MEASURER.measure_row(cross(40))
        (child,) = multiprocessing.active_children()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(RunError, match="was killed"):
            measure(cross(40))


@pytest.mark.slow
def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "begin.py"
    script.write_text(BEGIN)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    (child,) = map(int, ended.stdout.split())
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it still runs")
