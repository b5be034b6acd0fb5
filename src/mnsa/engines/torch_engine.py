"""From a network to torch's exported program, with batch, height and width left open.

B batch; H, W image size in pixels.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mnsa.engines.card import INPUT
from mnsa.errors import ModelError
from mnsa.model.layout import set_layout
from mnsa.model.network import Network
from mnsa.records import Outputs

_EXAMPLE = (2, 3, 76, 107)  # no multiple of 32, one side odd, no side or batch of 1: nothing looks fixed


class Exportable(nn.Module):
    """A network whose absent outputs are left out: exporters know tensors alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> what the network has of class_logits, mask_logits and attention."""
        return tuple(output for output in self.network(images) if output is not None)


def output_names(network: Network) -> tuple[str, ...]:
    """Name what the network puts out, in order."""
    attention = network.class_head is not None and network.attention is not None and network.attention.kind != "none"
    present = (network.class_head is not None, network.decoder is not None, attention)
    return tuple(name for name, is_there in zip(Outputs._fields, present, strict=True) if is_there)


def trace(network: Network) -> ExportedProgram:
    """Export a network, whose weights become contiguous: engines choose their own layouts.

    Raises: ModelError when torch can't, or for trees as class head, which are no tensors.
    """
    if network.class_head is not None and not isinstance(network.class_head.classifier, nn.Linear):
        raise ModelError(
            "Boosted trees are no tensor program, so they can't be exported. Export the network with its own head; "
            "the trees are asked with `--head trees` and no --engine."
        )
    free = {INPUT: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    # Reasoning about channels-last strides of unknown sizes takes the exporter minutes for every reshape.
    set_layout(network, torch.contiguous_format)
    with torch.no_grad(), explained("torch", network):
        return torch.export.export(
            Exportable(network.eval()), (torch.rand(_EXAMPLE),), dynamic_shapes=free, strict=False
        )


@contextmanager
def explained(engine: str, network: Network) -> Iterator[None]:
    """Keep an exporter's warnings, which nobody here can act on, and name the backbone when it fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # an exporter may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"A network with backbone {network.backbone.timm_name} can't be exported to {engine}: {reason}"
        ) from error
