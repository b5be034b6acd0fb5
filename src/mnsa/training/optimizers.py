"""torch's fused optimizers for weights in channels-last memory, and a setting of the memory allocator.

On a CPU a fused kernel copies every tensor that is not contiguous, and copies it back afterwards. Channels-last weights
are not contiguous, but their permuted views are. An update acts on each number alone, so the order doesn't matter.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # permutations
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_MB, _MANY = 1 << 20, 1 << 16
_MAX_INT = 2**31 - 1


def disable_malloc_trim() -> bool:
    """Let the C library keep freed memory for the next training step. Returns: False if it has no such setting.

    A training step allocates and frees the same gigabytes again and again. glibc returns large blocks to the system at
    once. Every new page then costs a page fault and is filled with zeros: half the bandwidth of a copy. Other C
    libraries have no such setting. The setting applies to the whole process.
    """
    return _set_malloc_options({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _MAX_INT})


def return_freed_memory() -> bool:
    """Undo `disable_malloc_trim`, where memory is short: blocks of 1 MB and more return to the system when freed."""
    changed = _set_malloc_options({_M_MMAP_MAX: _MANY, _M_MMAP_THRESHOLD: _MB, _M_TRIM_THRESHOLD: _MB})
    return changed and trim_memory()  # what has been freed before


def trim_memory() -> bool:
    """Return what the C library keeps of freed memory to the system. Returns: False if it can't."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return False
    return True


def _set_malloc_options(options: Mapping[int, int]) -> bool:
    """Set options of the C library's allocator. Returns: False if it has no such options."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(option, value) for option, value in options.items())


class _ChannelsLastOptimizer(Optimizer):
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Compute gradients by `closure`, if given, and update the weights. Returns: the result of `closure`."""
        with torch.enable_grad():
            result = None if closure is None else closure()
        with _permuted_views(self):
            super().step()
        return result


class ChannelsLastSGD(_ChannelsLastOptimizer, SGD):
    """`torch.optim.SGD`, for `fused=True`."""


class ChannelsLastAdamW(_ChannelsLastOptimizer, AdamW):
    """`torch.optim.AdamW`, for `fused=True`."""


@contextmanager
def _permuted_views(optimizer: Optimizer) -> Iterator[None]:
    """Replace channels-last weights, their gradients and optimizer states by permuted views, which are contiguous."""
    weights = [p for group in optimizer.param_groups for p in group["params"] if _is_channels_last(p)]
    _permute(optimizer, weights, TO_CHANNELS_LAST)
    try:
        yield
    finally:
        _permute(optimizer, weights, TO_CHANNELS_FIRST)


def _is_channels_last(weight: nn.Parameter) -> bool:
    is_channels_last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return is_channels_last and not weight.is_contiguous()


def _permute(optimizer: Optimizer, weights: list[nn.Parameter], order: tuple[int, ...]) -> None:
    """Permute weights (O, C, k, k), their gradients and moments. The memory stays as it is."""
    for weight in weights:
        for tensor in (weight, weight.grad, *optimizer.state[weight].values()):
            if isinstance(tensor, Tensor) and tensor.dim() == weight.dim():  # not AdamW's step count
                tensor.data = tensor.data.permute(order)
