"""How the process keeps memory while it trains."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the next step. Returns: whether it can.

    A training step takes and frees the same gigabytes again and again. glibc hands large blocks back to the system at
    once, and every page that is taken anew costs a fault and is filled with zeros: half the bandwidth of a copy. Other
    C libraries have no such switch and are left as they are. It holds for the whole process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
