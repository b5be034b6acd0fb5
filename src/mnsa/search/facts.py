"""What a trial is measured to cost beside its count of multiply-adds: memory and latency.

B batch; H, W image size in pixels.
"""

import resource
import statistics
import time
from contextlib import suppress
from pathlib import Path

import torch

from mnsa.config import ModelConfig
from mnsa.model.network import build_network

MIB = 1 << 20
WARM_UP, REPEATS = 2, 9


class PeakMemory:
    """The most memory used since it was made: allocated on the GPU where there is one, else resident in the process."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        with suppress(OSError):  # the peak is then the whole process's so far
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak, proc(5)

    def mib(self) -> float:
        """In MiB."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / MIB
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            return int(status.partition("VmHWM:")[2].split()[0]) / 1024
        except (OSError, IndexError):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def latency_ms(config: ModelConfig, classes: int, mask_classes: int, size: tuple[int, int]) -> float:
    """Median time of one image (1, 3, H, W) through the network, in milliseconds, on the device that training uses."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    blank = config.model_copy(update={"pretrained": "none"})  # the time depends on no weight
    network = build_network(blank, classes, mask_classes).eval().to(device)
    image = torch.zeros(1, 3, *size, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARM_UP:])
