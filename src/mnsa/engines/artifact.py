"""Write, read and call one exported network.

model.pt2 | model.onnx | model.xml + model.bin    the network, with its spec inside
model.onnx.data                                   its weights, if they are too large for model.onnx
export.json                                       the spec again, with the comparison with the eager network

B batch; h, w network input size.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnsa.engines.spec import (
    ENGINE_FILES,
    MIN_SIDE_PX,
    EngineName,
    ExportSpec,
    Precision,
    RunFunction,
    require_engine,
    require_precision,
)
from mnsa.engines.torch_engine import explain_export_errors, export_program
from mnsa.errors import ModelError, RunError
from mnsa.io import atomic_write_text
from mnsa.model.network import Network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from mnsa.run_folder import RunFolder, weights_digest
from mnsa.structures import NetworkOutputs


@dataclass(frozen=True, slots=True)
class EngineSession:
    """A loaded artifact. One call at a time: OpenVINO's requests are not shared between threads."""

    spec: ExportSpec
    run: RunFunction

    def __call__(self, images: Tensor) -> NetworkOutputs:
        """Answer for normalised images float32 (B, 3, h, w). Raises: ModelError for images under 33 px a side."""
        height, width = images.shape[-2:]
        if min(height, width) < MIN_SIDE_PX:
            raise ModelError(
                f"an input of {height} x {width} px is too small for an exported network; "
                f"give at least {MIN_SIDE_PX} px a side."
            )
        arrays = self.run(np.ascontiguousarray(images.cpu().numpy()))
        found = dict(zip(self.spec.outputs, arrays, strict=True))
        return NetworkOutputs(*(_to_tensor(found[name]) if name in found else None for name in NetworkOutputs._fields))


def _to_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


SPEC_FILE = "export.json"


def export_folder(run: Path, engine: EngineName, precision: Precision) -> Path:
    """Where a run keeps its artifact of one kind."""
    return RunFolder(run).exports_folder / f"{engine}-{precision}"


def write_artifact(folder: Path, network: Network, spec: ExportSpec, calibration: Iterable[np.ndarray]) -> None:
    """Write a network's file into `folder`. calibration: normalised images (1, 3, h, w), read for int8 alone.

    Raises: ModelError when the network can't be exported.
    """
    fused, target, text = (
        deepcopy(network).eval().requires_grad_(False),
        folder / ENGINE_FILES[spec.engine],
        spec.to_json(),
    )
    fuse_batch_norms(fused)
    program = export_program(fused)
    if spec.engine == "torch":
        from mnsa.engines.torch_engine import write_torch

        write_torch(program, target, text)
        return
    from mnsa.engines.onnx_engine import quantize_int8, remove_onnx, set_metadata, write_onnx

    onnx_file = folder / ENGINE_FILES["onnx"]
    with explain_export_errors(spec.engine, network):
        write_onnx(program, onnx_file, spec.outputs)
        if spec.precision == "int8":
            quantize_int8(onnx_file, calibration)
        set_metadata(onnx_file, text)
        if spec.engine == "openvino":
            from mnsa.engines.openvino_engine import write_openvino

            write_openvino(onnx_file, target, text, spec.precision)
            remove_onnx(onnx_file)


def save_comparison(folder: Path, spec: ExportSpec, comparison: dict[str, object]) -> ExportSpec:
    """Write the spec beside the artifact, with what the comparison has found."""
    spec = replace(spec, comparison=comparison)
    atomic_write_text(folder / SPEC_FILE, spec.to_json())
    return spec


def open_artifact(folder: Path, engine: EngineName) -> EngineSession:
    """Load an artifact. Raises: RunError when it is damaged; ModelError without the extra `export`."""
    require_engine(engine)
    path = folder / ENGINE_FILES[engine]
    try:
        if engine == "torch":
            from mnsa.engines.torch_engine import open_torch as open_file
        elif engine == "onnx":
            from mnsa.engines.onnx_engine import open_onnx as open_file
        else:
            from mnsa.engines.openvino_engine import open_openvino as open_file
        run, text = open_file(path)
        return EngineSession(ExportSpec.from_json(text), run)
    except Exception as error:  # three libraries, each with its own ways to fail
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"{path} can't be used: {reason}. Remove {folder} and export again.") from error


def open_export(run: Path, engine: EngineName, precision: Precision) -> EngineSession:
    """The artifact that `mnsa export` wrote into a run folder.

    Raises: RunError when there is none, or when it was made from other weights than the run has now.
    """
    require_precision(engine, precision)
    folder = export_folder(run, engine, precision)
    command = f"mnsa export {run} --to {engine}" + ("" if precision == "float32" else f" --precision {precision}")
    if not (folder / ENGINE_FILES[engine]).is_file():
        raise RunError(f"{run} has no {engine} network in {precision}. Make it: {command}")
    session = open_artifact(folder, engine)
    if session.spec.weights_sha256 != weights_digest(run):
        raise RunError(
            f"{folder} was made from other weights than {run} has now. Remove it and make it anew: {command}"
        )
    return session
