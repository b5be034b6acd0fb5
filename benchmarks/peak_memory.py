"""Peak memory of a process of its own, for the benchmarks that claim that memory doesn't grow.

Claim: none of its own. Command: `python benchmarks/SCRIPT ... --alone TASK COUNT` is what `peak_mb` runs.
Expect: one number, the process's highest resident memory in 10^6 bytes.
"""

import resource
import subprocess
import sys
from collections.abc import Sequence


def peak_mb(arguments: Sequence[str]) -> float:
    """Run a benchmark's script with arguments that make it print `print_peak`'s line. Returns: that number."""
    ended = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return float(ended.stdout.split()[-1])


def print_peak() -> None:
    """Print the highest resident memory of this process so far (Linux counts in KiB)."""
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
