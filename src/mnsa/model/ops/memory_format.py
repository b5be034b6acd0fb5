"""How the weights of convolutions lie in memory, which decides how their outputs do."""

import torch
from torch import Tensor, nn


def set_layout(network: nn.Module, layout: torch.memory_format) -> None:
    """Lay every kernel out anew, in place.

    `Module.to(memory_format=...)` passes over 1x1 and depthwise kernels, which count as being in both layouts; but
    their strides still say one, and the convolution's output follows them.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.clone(memory_format=layout)


def layout_of(features: Tensor) -> torch.memory_format:
    """The layout that features (B, C, H, W) are in."""
    channels_last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
