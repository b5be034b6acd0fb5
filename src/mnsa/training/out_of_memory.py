"""The memory of training: measure it, free what a failed step holds, let the limit of a container raise an error."""

import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch

from mnsa.config import StageConfig
from mnsa.errors import ConfigError, is_out_of_memory
from mnsa.training.optimizers import return_freed_memory, trim_memory

_UNLIMITED = 1 << 60  # bytes; cgroups of version 1 write a number like this where there is no limit
_USABLE = 0.95  # of what a limit leaves; the rest is for what the kernel counts besides: page tables, stacks


_ADDRESSES, _DATA, _CGROUP = "ulimit -v", "ulimit -d", "its container or job (cgroup)"  # what limits the memory

logger = logging.getLogger(__name__)


class _Limit:
    """What limits the memory of this process, within `limited_memory`. There is one, because a process has one such."""

    name = ""


_limit = _Limit()


def out_of_memory_message(stage: StageConfig, images: int, height: int, width: int) -> str:
    """Say that there is no memory for a number of images at once, and what to do. height, width: in pixels."""
    key, parts = f"stages.{stage.name}", min(max(1, stage.batch_size // 2), 2 * max(1, stage.batch_size // images))
    smaller = f"set {key}.batch_parts to {parts} or more, " if images > 3 else ""
    limited = f" The limit is that of {_limit.name}." if _limit.name else ""
    return (
        f"Not enough memory for {images} images of {height} x {width} px at once, of {key}.batch_size = "
        f"{stage.batch_size}.{limited} To need less memory, {smaller}lower data.size, or choose a smaller "
        "model.backbone; or close other programs. Complete epochs are saved."
    )


def free_memory() -> None:
    """Give back what a failed step has left: tensors in circles of references, and the GPU's blocks without a tensor.

    And what autograd holds: after an error, its queue keeps the nodes that were still to be run, with all that they
    have saved, until a later backward pass reaches them. Newer nodes come first, so this one is made to look the
    oldest: its number comes from a counter that a new thread begins at 0.
    """
    gc.collect()
    with ThreadPoolExecutor(1) as thread:
        oldest = thread.submit(lambda: torch.zeros((), requires_grad=True) * 1).result()
    oldest.backward()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return_freed_memory()
    if _limit.name == _CGROUP:
        _limit_data()


def measure_peak(run: Callable[[], object], device: torch.device) -> int | None:
    """Call a function, and return the bytes it needs at once, beside what the process has. None: not known.

    On a GPU those of its tensors; on a CPU the growth of the resident memory, which only Linux tells.
    """
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    trim_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins again
        before = _read_status("VmRSS")
    except OSError:
        run()
        return None
    run()
    return _read_status("VmHWM") - before


def available_bytes(device: torch.device) -> int | None:
    """Read how many bytes are left: of a GPU, or of the machine and the limits of this process. None: not known."""
    gc.collect()
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    trim_memory()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    machine = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    limit = memory_limit()
    known = [left for left in (machine, limit and limit[0]) if left is not None]
    return min(known, default=None)


def _read_status(name: str, root: Path = Path("/")) -> int:
    """Read a number of bytes in /proc/self/status. Raises: OSError."""
    lines = (root / "proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


@contextmanager
def memory_errors(stage: StageConfig, size: tuple[int, int]) -> Iterator[None]:
    """Raise every error that means too little memory as ConfigError. size: height and width of an input, in pixels."""
    try:
        with limited_memory():
            yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    raise ConfigError(out_of_memory_message(stage, stage.batch_size, *size))


@contextmanager
def limited_memory() -> Iterator[None]:
    """Name the limit of this process's memory, and let an allocation above it raise an error.

    Without this, the kernel kills a process above the limit of its cgroup (a container, a SLURM job) without a word.
    Only on Linux, and only where there is a limit. A block within another one does nothing.
    """
    limit = None if _limit.name else memory_limit()
    if limit is None:
        yield
        return
    resource = import_module("resource")
    before, (free, _limit.name) = resource.getrlimit(resource.RLIMIT_DATA), limit
    logger.info(f"{free / 1e9:.1f} GB of memory are left for this process: the limit of {_limit.name}.")
    if _limit.name == _CGROUP:
        _limit_data()
    else:
        return_freed_memory()  # these limits count what the C library keeps
    try:
        yield
    finally:
        _limit.name = ""
        resource.setrlimit(resource.RLIMIT_DATA, before)


def memory_limit(root: Path = Path("/")) -> tuple[int, str] | None:
    """Read how many bytes this process may still take, and what says so; None without a limit. root: of /proc and /sys.

    The limits are those of addresses (ulimit -v), of data (ulimit -d) and of the cgroup.
    """
    try:
        resource = import_module("resource")
        used = {name: _read_status(name, root) for name in ("VmSize", "VmData")}
    except (ImportError, OSError):  # Windows, macOS
        return None
    kinds = (resource.RLIMIT_AS, "VmSize", _ADDRESSES), (resource.RLIMIT_DATA, "VmData", _DATA)
    most = [(resource.getrlimit(kind)[0], used[size], name) for kind, size, name in kinds]
    limits = [(max(0, limit - size), name) for limit, size, name in most if limit != resource.RLIM_INFINITY]
    if (free := cgroup_free_bytes(root)) is not None:
        limits.append((free, _CGROUP))
    return min(limits, default=None)


def _limit_data() -> None:
    """Limit the memory that this process may write to what its cgroup leaves, besides what it has."""
    resource = import_module("resource")  # not on Windows
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = _read_status("VmData") + int(_USABLE * (cgroup_free_bytes() or 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def cgroup_free_bytes(root: Path = Path("/")) -> int | None:
    """Read how many bytes the cgroup of this process may still take, of version 1 or 2; None without a limit.

    What the cgroup has in unused file cache counts as free. root: of /proc and /sys.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    free = list[int | None]()
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        folder = top / path.lstrip("/")
        # A container sees its own cgroup at the top, whatever the path. A limit of a parent holds, too.
        places = {top, folder, *(parent for parent in folder.parents if top in parent.parents)}
        free.extend(_free_bytes(place, *names) for place in places)
    return min((left for left in free if left is not None), default=None)


def _free_bytes(group: Path, limit_file: str, usage_file: str, cache_name: str) -> int | None:
    try:
        limit = int((group / limit_file).read_text(encoding="utf-8"))
        usage = int((group / usage_file).read_text(encoding="utf-8"))
        statistics = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # no such group, or "max"
        return None
    cache = next((int(line.split()[1]) for line in statistics if line.startswith(f"{cache_name} ")), 0)
    return None if limit >= _UNLIMITED else max(0, limit - usage + cache)
