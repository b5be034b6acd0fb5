"""Export a network with torch.export, and open and run the .pt2 file. Batch, height and width are dynamic.

B batch; H, W image size in pixels.
"""

import io
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
from mnsa.model.weights import set_memory_format
from mnsa.structures import NetworkOutputs

_EXAMPLE_SHAPE = (2, 3, 76, 107)  # no multiples of 32, one odd side, no batch of 1: no size looks constant
_EXTRA_FILE = f"{METADATA_KEY}.json"


class ExportWrapper(nn.Module):
    """A network that returns only its existing outputs, because exporters accept only tensors."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> those of class_logits, mask_logits and attention that the network has."""
        return tuple(output for output in self.network(images) if output is not None)


def output_names(network: Network) -> tuple[str, ...]:
    """Return the names of the network's outputs, in order."""
    attention = network.class_head is not None and network.attention is not None and network.attention.kind != "none"
    present = (network.class_head is not None, network.decoder is not None, attention)
    return tuple(name for name, is_present in zip(NetworkOutputs._fields, present, strict=True) if is_present)


def export_program(network: Network) -> ExportedProgram:
    """Export a network. Its weights become contiguous, in place; engines choose their own memory formats.

    Raises: ModelError when torch can't export it, or for boosted trees as class head.
    """
    if network.class_head is not None and not isinstance(network.class_head.classifier, nn.Linear):
        raise ModelError(
            "Boosted trees are no tensor program, so they can't be exported. Export the network with its own head. "
            "To predict with the trees, use `--head trees` without --engine."
        )
    dynamic = {INPUT_NAME: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    # With channels-last strides of unknown sizes, the exporter needs minutes for every reshape.
    set_memory_format(network, torch.contiguous_format)
    with torch.no_grad(), explain_export_errors("torch", network):
        return torch.export.export(
            ExportWrapper(network.eval()), (torch.rand(_EXAMPLE_SHAPE),), dynamic_shapes=dynamic, strict=False
        )


@contextmanager
def explain_export_errors(engine: str, network: Network) -> Iterator[None]:
    """Hide an exporter's warnings, which a user can't act on, and name the backbone when it fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError:  # about a file, not about the network
        raise
    except Exception as error:  # exporters raise many types
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"A network with backbone {network.backbone.timm_name} can't be exported to {engine}: {reason}"
        ) from error


def write_torch(program: ExportedProgram, path: Path, spec: str) -> None:
    """Write a program, with its spec as an extra file inside. Raises: OSError."""
    content = io.BytesIO()  # torch's own writer of files ends the process when a write is refused
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, content, extra_files={_EXTRA_FILE: spec})
    path.write_bytes(content.getbuffer())


def open_torch(path: Path) -> tuple[RunFunction, str]:
    """Open a program. Returns: the function that runs it, and its spec as text."""
    extra = {_EXTRA_FILE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path, extra_files=extra)
        # Guards would require the memory format of the example. The comparison has shown that others work too.
        module = program.module(check_guards=False)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(images))]

    return run, extra[_EXTRA_FILE]
