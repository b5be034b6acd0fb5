"""Fuse BatchNorms into the convolutions before them, for inference.

In eval mode a BatchNorm is a scale and a shift per channel. The convolution before it can carry both in its weights and
its bias. The autograd graph of one forward pass shows which convolution is followed by which BatchNorm, and whether
another layer reads its output. So it works for any backbone.
"""

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

TRACE_SIDE_PX = 64


class ConvNormPair(NamedTuple):
    """A convolution whose output goes to this BatchNorm and nowhere else."""

    conv: nn.Conv2d
    norm_name: str
    norm: nn.BatchNorm2d


def fuse_batch_norms(network: nn.Module) -> None:
    """Fold, in place, every BatchNorm that follows a convolution, in a network in eval mode: the same function.

    Source: Jacob et al. 2018, Quantization and Training of Neural Networks, section 3.2.
    """
    for conv, norm_name, norm in find_conv_norm_pairs(network):
        if norm.running_mean is None or norm.running_var is None:
            continue  # it normalises by the batch it sees
        with torch.no_grad():
            # Square root, division and product are rounded alike on every machine, so that weights can be recognised.
            scale = 1 / (norm.running_var + norm.eps).sqrt()
            scale = scale if norm.weight is None else norm.weight * scale
            shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
            bias = shift * scale if norm.bias is None else shift * scale + norm.bias
            weight = torch.empty_like(conv.weight)  # in the same layout: a product may choose another for 1x1 kernels
            torch.mul(conv.weight, scale.view(-1, 1, 1, 1), out=weight)
        trainable = conv.weight.requires_grad
        conv.weight, conv.bias = nn.Parameter(weight, trainable), nn.Parameter(bias, trainable)
        network.set_submodule(norm_name, _remaining_layers(norm))


def find_conv_norm_pairs(network: nn.Module) -> list[ConvNormPair]:
    """Find what can be folded, by running the network once on a small black image."""
    made: dict[Any, nn.Conv2d] = {}  # graph node of a convolution's output -> the convolution
    met: dict[Any, tuple[str, nn.BatchNorm2d]] = {}  # graph node of a BatchNorm's input -> the BatchNorm
    norm_names = {module: name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}

    def note_conv(conv: nn.Module, _: object, out: Tensor) -> None:
        if isinstance(conv, nn.Conv2d):
            made[out.grad_fn] = conv

    def note_norm(norm: nn.Module, given: tuple[Tensor]) -> None:
        if isinstance(norm, nn.BatchNorm2d):
            met[given[0].grad_fn] = norm_names[norm], norm

    hooks = [m.register_forward_hook(note_conv) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [norm.register_forward_pre_hook(note_norm) for norm in norm_names]
    try:
        readers = _count_consumers(_output_nodes(network))
    finally:
        for hook in hooks:
            hook.remove()
    conv_uses, norm_uses = Counter(made.values()), Counter(name for name, _ in met.values())
    return [
        ConvNormPair(made[node], name, norm)
        for node, (name, norm) in met.items()
        if node in made and readers[node] == conv_uses[made[node]] == norm_uses[name] == 1
    ]


def _output_nodes(network: nn.Module) -> list[Any]:
    """Run the network once, and return the graph nodes of its outputs."""
    like = next(network.parameters())
    image = torch.zeros(1, 3, TRACE_SIDE_PX, TRACE_SIDE_PX, device=like.device, dtype=like.dtype, requires_grad=True)
    with torch.enable_grad():
        outputs = network(image)
    return [output.grad_fn for output in outputs if output is not None and output.grad_fn is not None]


def _count_consumers(queue: list[Any]) -> Counter[Any]:
    """How many nodes of a graph, walked from its last ones, read each node's result."""
    count: Counter[Any] = Counter()
    seen = set()
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            count[before] += 1
            if before is not None:
                queue.append(before)
    return count


def _remaining_layers(norm: nn.BatchNorm2d) -> nn.Module:
    """What a BatchNorm did beside normalising: timm's have an activation."""
    return nn.Sequential(*norm.children())
