"""The memory format of convolution weights. The format of a convolution's output follows it."""

import torch
from torch import Tensor, nn


def set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay every kernel out anew, in place.

    `Module.to(memory_format=...)` passes over 1x1 and depthwise kernels, which count as being in both layouts; but
    their strides still say one, and the convolution's output follows them.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.clone(memory_format=memory_format)


def memory_format_of(features: Tensor) -> torch.memory_format:
    """The layout that features (B, C, H, W) are in."""
    channels_last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
