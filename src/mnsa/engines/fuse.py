"""BatchNorm folded into the convolution before it: the same function with fewer steps, for inference alone."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mnsa.model.network import Network

_PROBE = (1, 3, 64, 64)


def fuse_batch_norms(network: Network) -> Network:
    """Copy a network, in eval mode, and fold every BatchNorm that reads a convolution's output into that convolution.

    A BatchNorm after anything else, such as DenseNet's after a concatenation, stays. Source: Jacob et al. 2018,
    Quantization and Training of Neural Networks, section 3.2.
    """
    fused = deepcopy(network).eval().requires_grad_(False)
    for conv_name, norm_name in list(_pairs(fused)):
        conv: Any = fused.get_submodule(conv_name)
        norm: Any = fused.get_submodule(norm_name)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        fused.set_submodule(norm_name, _rest_of(norm))
    return fused.requires_grad_(False)


def _pairs(network: Network) -> Iterator[tuple[str, str]]:
    """Names of (convolution, BatchNorm) where the second reads what the first has put out, and nothing else does.

    Found by a forward pass: what stands beside each other in a module need not follow each other in it.
    """
    kept: list[Tensor] = []  # so that no tensor's number is given to a second one
    made: dict[int, str] = {}
    read: dict[int, list[str]] = {}
    runs: Counter[str] = Counter()

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        runs[name] += 1
        kept.extend(tensor for tensor in (*inputs, output) if isinstance(tensor, Tensor))
        if inputs and isinstance(inputs[0], Tensor):
            read.setdefault(id(inputs[0]), []).append(name)
        if isinstance(module, nn.Conv2d):
            made[id(output)] = name

    leaves = [(name, module) for name, module in network.named_modules() if _is_leaf(module)]
    hooks = [module.register_forward_hook(lambda m, i, o, name=name: note(name, m, i, o)) for name, module in leaves]
    device = next(network.parameters()).device
    with torch.no_grad():
        network(torch.zeros(_PROBE, device=device))
    for hook in hooks:
        hook.remove()
    for key, conv in made.items():
        readers = read.get(key, [])
        once = len(readers) == 1 and runs[conv] == runs[readers[0]] == 1
        if once and isinstance(network.get_submodule(readers[0]), nn.BatchNorm2d):
            yield conv, readers[0]


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) or not any(True for _ in module.children())


def _rest_of(norm: nn.Module) -> nn.Module:
    """What a BatchNorm does beside normalising: timm's have an activation inside."""
    return nn.Sequential(*(part for _, part in norm.named_children()))
