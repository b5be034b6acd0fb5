"""Write, open and run one exported network, whatever its engine.

model.pt2 | model.onnx | model.xml + model.bin    the network, with its spec inside
model.onnx.data                                   its weights, if they are too large for model.onnx
export.json                                       the spec, with the comparison with the eager network

B batch; h, w network input size.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from mnsa.engines.runtimes import (
    open_onnx,
    open_openvino,
    quantize_int8,
    remove_onnx,
    set_metadata,
    write_onnx,
    write_openvino,
)
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
from mnsa.engines.torch_engine import explain_export_errors, export_program, open_torch, write_torch
from mnsa.errors import ModelError, RunError
from mnsa.io import atomic_write_text
from mnsa.model.network import Network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from mnsa.run_folder import RunFolder, weights_digest
from mnsa.structures import NetworkOutputs

SPEC_FILE = "export.json"

CalibrationImages = Iterable[np.ndarray]  # normalized images float32 (1, 3, h, w)


@dataclass(frozen=True, slots=True)
class EngineSession:
    """An opened exported network. It is not thread-safe: OpenVINO's inference requests can't be shared."""

    spec: ExportSpec
    run: RunFunction

    def __call__(self, images: Tensor) -> NetworkOutputs:
        """Compute the outputs for normalized images float32 (B, 3, h, w). Raises: ModelError below 33 px a side."""
        height, width = images.shape[-2:]
        if min(height, width) < MIN_SIDE_PX:
            raise ModelError(
                f"an input of {height} x {width} px is too small for an exported network. "
                f"Give at least {MIN_SIDE_PX} px a side."
            )
        arrays = self.run(np.ascontiguousarray(images.cpu().numpy()))
        outputs = dict(zip(self.spec.outputs, arrays, strict=True))
        fields = NetworkOutputs._fields
        return NetworkOutputs(*(_to_tensor(outputs[name]) if name in outputs else None for name in fields))


def export_folder(run: Path, engine: EngineName, precision: Precision) -> Path:
    """Return the folder of one export inside a run folder."""
    return RunFolder(run).exports_folder / f"{engine}-{precision}"


def write_artifact(folder: Path, network: Network, spec: ExportSpec, calibration: CalibrationImages) -> None:
    """Export a network into `folder`. calibration: read for int8 only.

    Raises: ModelError when the network can't be exported; OSError when the file can't be written.
    """
    fused = deepcopy(network).eval().requires_grad_(False)
    fuse_batch_norms(fused)
    program = export_program(fused)
    with explain_export_errors(spec.engine, network):
        _ENGINES[spec.engine].write(program, folder, spec, calibration)


def save_comparison(folder: Path, spec: ExportSpec, comparison: dict[str, object]) -> ExportSpec:
    """Write the spec beside the exported network, with the result of the comparison. Returns: that spec."""
    spec = replace(spec, comparison=comparison)
    atomic_write_text(folder / SPEC_FILE, spec.to_json())
    return spec


def open_artifact(folder: Path, engine: EngineName) -> EngineSession:
    """Open an exported network. Raises: RunError when it is damaged; ModelError without the extra `export`."""
    require_engine(engine)
    path = folder / ENGINE_FILES[engine]
    try:
        run, text = _ENGINES[engine].open(path)
        return EngineSession(ExportSpec.from_json(text), run)
    except Exception as error:  # the libraries raise many types
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"{path} can't be used: {reason}. Remove {folder} and export again.") from error


def open_export(run: Path, engine: EngineName, precision: Precision) -> EngineSession:
    """Open the network that `mnsa export` wrote into a run folder.

    Raises: RunError when there is none, or when the weights of the run have changed since.
    """
    require_precision(engine, precision)
    folder = export_folder(run, engine, precision)
    command = f"mnsa export {run} --to {engine}" + ("" if precision == "float32" else f" --precision {precision}")
    if not (folder / ENGINE_FILES[engine]).is_file():
        raise RunError(f"{run} has no {engine} network in {precision}. Export it: {command}")
    session = open_artifact(folder, engine)
    if session.spec.weights_sha256 != weights_digest(run):
        raise RunError(f"{folder} was exported from other weights than {run} has now. Remove it, then run: {command}")
    return session


def _write_torch(program: ExportedProgram, folder: Path, spec: ExportSpec, _: CalibrationImages) -> None:
    write_torch(program, folder / ENGINE_FILES["torch"], spec.to_json())


def _write_onnx(program: ExportedProgram, folder: Path, spec: ExportSpec, calibration: CalibrationImages) -> None:
    path = folder / ENGINE_FILES["onnx"]
    write_onnx(program, path, spec.outputs)
    if spec.precision == "int8":
        quantize_int8(path, calibration)
    set_metadata(path, spec.to_json())


def _write_openvino(program: ExportedProgram, folder: Path, spec: ExportSpec, calibration: CalibrationImages) -> None:
    _write_onnx(program, folder, spec, calibration)
    onnx_file = folder / ENGINE_FILES["onnx"]
    write_openvino(onnx_file, folder / ENGINE_FILES["openvino"], spec.to_json(), spec.precision)
    remove_onnx(onnx_file)


class _Engine(NamedTuple):
    write: Callable[[ExportedProgram, Path, ExportSpec, CalibrationImages], None]
    open: Callable[[Path], tuple[RunFunction, str]]  # the function that runs the network, and its spec as text


_ENGINES: Mapping[EngineName, _Engine] = MappingProxyType(
    {
        "torch": _Engine(_write_torch, open_torch),
        "onnx": _Engine(_write_onnx, open_onnx),
        "openvino": _Engine(_write_openvino, open_openvino),
    }
)


def _to_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))
