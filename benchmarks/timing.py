"""Fair timing, shared by the benchmarks: the contestants take turns, so that a busy minute slows them all.

Claim: none of its own. A time depends on the machine, a ratio of two times taken one after the other hardly does;
so benchmarks report ratios, with their spread.
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
Seconds = dict[str, list[float]]  # contestant -> one time per turn


class Spread(NamedTuple):
    """The middle of some numbers and how far they reach: median, minimum, maximum."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}-{self.high:.1f})"


def take_turns(contestants: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> Seconds:
    """Time the contestants A B A B ..., after `warm_up` rounds that count for nothing. Returns: wall-clock seconds."""
    times: Seconds = {name: [] for name in contestants}
    for turn in range(warm_up + repeats):
        for name, run in contestants.items():
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


def speed_up(times: Seconds, slow: str, fast: str) -> Spread:
    """Compare neighbouring turns: how many times as long `slow` takes as `fast`."""
    ratios = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return Spread(statistics.median(ratios), min(ratios), max(ratios))


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
