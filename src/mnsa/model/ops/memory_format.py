"""The memory format of convolution kernels. A convolution's output has the memory format of its kernel."""

import torch
from torch import nn


def set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Store every kernel (O, C, k, k) of a network in this memory format, in place.

    `Module.to(memory_format=...)` skips 1x1 and depthwise kernels, because they are valid in both formats. Their
    strides still tell one format, and the convolution's output follows the strides.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.clone(memory_format=memory_format)


def set_memory_format_reference(network: nn.Module, memory_format: torch.memory_format) -> None:
    """`set_memory_format` in plain PyTorch: the same values, but 1x1 and depthwise kernels keep their strides."""
    network.to(memory_format=memory_format)
