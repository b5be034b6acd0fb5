"""Fuse BatchNorms into the convolutions before them, for inference.

In eval mode a BatchNorm is a scale and a shift per channel. The convolution before it can include both in its weights
and its bias. The autograd graph of one forward pass shows which BatchNorm follows which convolution, and whether
another layer reads the convolution's output. So this works for any backbone.

B batch; C input and O output channels.
"""

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

TRACE_SIDE_PX = 64  # side of the image that the network is traced with


class ConvNormPair(NamedTuple):
    """A convolution, and the BatchNorm that alone reads its output."""

    conv: nn.Conv2d
    norm_name: str
    norm: nn.BatchNorm2d


def fuse_batch_norms(network: nn.Module) -> None:
    """Fuse every BatchNorm that follows a convolution, in place. The network, in eval mode, computes the same function.

    Source: Jacob et al. 2018, Quantization and Training of Neural Networks, section 3.2.
    """
    for conv, norm_name, norm in find_conv_norm_pairs(network):
        if norm.running_mean is None or norm.running_var is None:
            continue  # it normalizes by the statistics of the batch
        trainable = conv.weight.requires_grad
        weight, bias = fused_weights(conv, norm)
        conv.weight, conv.bias = nn.Parameter(weight, trainable), nn.Parameter(bias, trainable)
        network.set_submodule(norm_name, _remaining_layers(norm))


def fused_weights(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Compute weight (O, C, k, k) and bias (O,) of the one convolution that equals `norm(conv(x))` in eval mode."""
    assert norm.running_mean is not None  # noqa: S101 - the caller checks
    assert norm.running_var is not None  # noqa: S101
    with torch.no_grad():
        # Square root, division and product are rounded alike on every machine; rsqrt isn't. So weights stay comparable.
        scale = 1 / (norm.running_var + norm.eps).sqrt()
        scale = scale if norm.weight is None else norm.weight * scale
        shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
        weight = torch.empty_like(conv.weight)  # keeps the memory format, which a product of 1x1 kernels may change
        torch.mul(conv.weight, scale.view(-1, 1, 1, 1), out=weight)
    return weight, bias


def conv_norm_reference(features: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """What the fused convolution computes, in plain PyTorch: features (B, C, H, W) -> (B, O, H', W')."""
    return norm(conv(features))  # type: ignore[no-any-return]


def find_conv_norm_pairs(network: nn.Module) -> list[ConvNormPair]:
    """Find the pairs that can be fused, by running the network once on a small black image."""
    convs: dict[Any, nn.Conv2d] = {}  # graph node of a convolution's output -> the convolution
    norms: dict[Any, tuple[str, nn.BatchNorm2d]] = {}  # graph node of a BatchNorm's input -> the BatchNorm
    norm_names = {module: name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}

    def record_conv(conv: nn.Module, _: object, out: Tensor) -> None:
        if isinstance(conv, nn.Conv2d):
            convs[out.grad_fn] = conv

    def record_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        if isinstance(norm, nn.BatchNorm2d):
            norms[inputs[0].grad_fn] = norm_names[norm], norm

    hooks = [m.register_forward_hook(record_conv) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [norm.register_forward_pre_hook(record_norm) for norm in norm_names]
    try:
        readers = _count_readers(_output_nodes(network))
    finally:
        for hook in hooks:
            hook.remove()
    conv_uses, norm_uses = Counter(convs.values()), Counter(name for name, _ in norms.values())
    return [
        ConvNormPair(convs[node], name, norm)
        for node, (name, norm) in norms.items()
        if node in convs and readers[node] == conv_uses[convs[node]] == norm_uses[name] == 1
    ]


def _output_nodes(network: nn.Module) -> list[Any]:
    """Run the network once, and return the graph nodes of its outputs."""
    like = next(network.parameters())
    image = torch.zeros(1, 3, TRACE_SIDE_PX, TRACE_SIDE_PX, device=like.device, dtype=like.dtype, requires_grad=True)
    with torch.enable_grad():
        outputs = network(image)
    return [output.grad_fn for output in outputs if output is not None and output.grad_fn is not None]


def _count_readers(last_nodes: list[Any]) -> Counter[Any]:
    """Count, for each node of a graph, how many nodes read its result."""
    count: Counter[Any] = Counter()
    queue, seen = list(last_nodes), set()
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
    """Return the layers inside a BatchNorm that stay: timm's may contain an activation."""
    return nn.Sequential(*norm.children())
