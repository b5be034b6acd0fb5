"""Timing for the benchmarks: the candidates take turns, so that other load on the machine slows all of them.

Claim: none; imported by other benchmarks. A time depends on the machine; a ratio of two times that are measured one
after the other hardly does. So benchmarks report ratios, with their range.
Command: `python benchmarks/timing.py` prints the machine's facts, the first line of every result.
Expect: one line with CPU model, threads and versions.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision

MIN_REPEATS = 5
Seconds = dict[str, list[float]]  # candidate -> one time per turn


class Range(NamedTuple):
    """Median, minimum and maximum of some numbers."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}-{self.high:.1f})"


def take_turns(candidates: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> Seconds:
    """Time the candidates A B A B ..., after `warm_up` rounds that are not counted. Returns: wall-clock seconds."""
    times: Seconds = {name: [] for name in candidates}
    for turn in range(warm_up + repeats):
        for name, run in candidates.items():
            seconds = seconds_of(run)
            if turn >= warm_up:
                times[name].append(seconds)
    return times


def seconds_of(run: Callable[[], object]) -> float:
    """Time one call in seconds: by the wall clock, or by CUDA events where there is a GPU."""
    if torch.cuda.is_available():
        return _seconds_between_events(run)
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def speed_up(times: Seconds, slow: str, fast: str) -> Range:
    """Compare adjacent turns: the time of `slow` divided by that of `fast`."""
    ratios = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return Range(statistics.median(ratios), min(ratios), max(ratios))


def machine_facts() -> str:
    """Name CPU model, cores, threads and versions in one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    )


def _seconds_between_events(run: Callable[[], object]) -> float:
    """Work that the call does on the CPU alone lies between the two events too."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    print(machine_facts())
