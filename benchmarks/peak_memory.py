"""Peak memory of a function, and child processes for measurements that must not share memory.

Claim: none; imported by `memory.py`, `peer_speed.py`, `loading.py`, `predict_scale.py` and `tiles.py`. On a
GPU the peak is that of torch's allocator; on a CPU it is the kernel's record of the largest resident size (Linux),
reset before the work.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

MB = 1e6
RESET_PEAK = "5"  # written to clear_refs, see proc(5)


class Peak(NamedTuple):
    """Memory in MB: before the work, and the maximum during it."""

    before: float
    peak: float

    @property
    def rise(self) -> float:
        """The memory that the work needed."""
        return self.peak - self.before


def peak_of(work: Callable[[], object], device: torch.device) -> Peak:
    """Run the work and measure its peak memory. Raises: OSError without /proc, so only Linux works."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return Peak(before / MB, torch.cuda.max_memory_allocated() / MB)
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    before = resident("VmRSS")
    work()
    return Peak(before, resident("VmHWM"))


def most_held(work: Callable[[], object]) -> float:
    """Run the work on a CPU and measure the maximum memory of tensors in MB, without heap gaps and libraries."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    taken = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    return max(accumulate(size for _, size in taken)) / MB


def resident(field: str) -> float:
    """Read this process's resident size (VmRSS) or its peak (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith(field))
    return int(kib) * 1024 / MB


def in_child(arguments: Sequence[str]) -> Peak:
    """Run a Python script in a fresh process; its last line is a Peak as JSON. Raises: CalledProcessError."""
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return Peak(*json.loads(done.stdout.splitlines()[-1]))


def middle(peaks: Sequence[Peak]) -> Peak:
    """Return the measurement with the median rise (the upper one of an even number)."""
    return sorted(peaks, key=lambda peak: peak.rise)[len(peaks) // 2]


def rises(peaks: Sequence[Peak]) -> str:
    """Format the median rise and its range."""
    values = [peak.rise for peak in peaks]
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def peak_mb(arguments: Sequence[str]) -> float:
    """Run a benchmark's script with arguments that make it print `print_peak`'s line. Returns: that number."""
    ended = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return float(ended.stdout.split()[-1])


def print_peak() -> None:
    """Print the highest resident size of this process so far, in MB (Linux)."""
    print(resident("VmHWM"))
