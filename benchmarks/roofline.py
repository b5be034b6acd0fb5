"""What a machine can do at most: bytes copied and multiply-adds per second, measured.

Claim: none; `deform_conv_gpu.py` compares its times with it. An operation that reads and writes `bytes` once and does
`macs` multiply-adds takes at least bytes / bandwidth or macs / rate, whichever is longer: the roofline (Williams et al.
2009).
Command: `python benchmarks/roofline.py --device cuda`
Expect: one line.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import torch

from arithmetic import MATRIX_SIDE
from timing import machine_facts, pick_device, take_turns

COPIED_BYTES = {"cpu": 2**26, "cuda": 2**30}
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Roofline(NamedTuple):
    """Bytes per second (each byte that is read or written counts), and multiply-adds per second by number format."""

    bandwidth: float
    rates: dict[str, float]

    def seconds(self, *, macs: float, moved_bytes: float, precision: str) -> float:
        """Compute the least time of an operation."""
        return max(moved_bytes / self.bandwidth, macs / self.rates[precision])

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in self.rates.items())
        return f"copies {self.bandwidth / 1e9:,.0f} GB/s; matrix products, T multiply-adds/s: {rates}"


@contextmanager
def tf32(*, enabled: bool) -> Iterator[None]:
    """Round the products of float32 to TF32 on a GPU, or not, inside the context."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def measure(device: torch.device, precisions: list[str], repeats: int = 5, side: int | None = None) -> Roofline:
    """Time a copy and a square matrix product per number format; medians."""
    side = side or MATRIX_SIDE[device.type]
    source = torch.zeros(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copies = take_turns({"copy": lambda: target.copy_(source)}, repeats)["copy"]
    rates = {}
    for precision in precisions:
        a, b = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
        with tf32(enabled=precision == "tf32"):
            times = take_turns({"product": lambda a=a, b=b: a @ b}, repeats)["product"]  # type: ignore[misc]
        rates[precision] = side**3 / median(times)
    return Roofline(2 * source.nbytes / median(copies), rates)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    device = pick_device(parser.parse_args().device)
    print(f"{machine_facts()}: {measure(device, list(DTYPES))}")


if __name__ == "__main__":
    main()
