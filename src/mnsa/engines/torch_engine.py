"""Export a network with torch.export, and load and run the .pt2 file. Batch, height and width are dynamic.

B batch; H, W image size in pixels.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mnsa.engines.spec import INPUT_NAME, METADATA_KEY, RunFunction
from mnsa.errors import ModelError
from mnsa.model.network import Network
from mnsa.model.ops.memory_format import set_memory_format
from mnsa.structures import NetworkOutputs

_EXAMPLE_SHAPE = (2, 3, 76, 107)  # no multiple of 32, one side odd, no side or batch of 1: nothing looks fixed


class ExportWrapper(nn.Module):
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
    return tuple(name for name, is_there in zip(NetworkOutputs._fields, present, strict=True) if is_there)


def export_program(network: Network) -> ExportedProgram:
    """Export a network, whose weights become contiguous: engines choose their own layouts.

    Raises: ModelError when torch can't, or for trees as class head, which are no tensors.
    """
    if network.class_head is not None and not isinstance(network.class_head.classifier, nn.Linear):
        raise ModelError(
            "Boosted trees are no tensor program, so they can't be exported. Export the network with its own head; "
            "the trees are asked with `--head trees` and no --engine."
        )
    free = {INPUT_NAME: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    # Reasoning about channels-last strides of unknown sizes takes the exporter minutes for every reshape.
    set_memory_format(network, torch.contiguous_format)
    with torch.no_grad(), explain_export_errors("torch", network):
        return torch.export.export(
            ExportWrapper(network.eval()), (torch.rand(_EXAMPLE_SHAPE),), dynamic_shapes=free, strict=False
        )


@contextmanager
def explain_export_errors(engine: str, network: Network) -> Iterator[None]:
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


_EXTRA_FILE = f"{METADATA_KEY}.json"


def write_torch(program: ExportedProgram, path: Path, spec: str) -> None:
    """Write a program with its spec as an extra file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={_EXTRA_FILE: spec})


def open_torch(path: Path) -> tuple[RunFunction, str]:
    """What runs the program, and its spec."""
    extra = {_EXTRA_FILE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path, extra_files=extra)
        # The guards say what held for the example, memory layout included; the comparison has shown what holds.
        module = program.module(check_guards=False)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(images))]

    return run, extra[_EXTRA_FILE]
