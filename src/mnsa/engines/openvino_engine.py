"""Convert an ONNX file to OpenVINO (.xml and .bin), and open and run it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mnsa.engines.spec import METADATA_KEY, Precision, RunFunction
from mnsa.io import parse_json

# OpenVINO chooses bfloat16 by default if the processor supports it, so float32 is set explicitly. The layers of an int8
# network that are not quantized may use bfloat16, which is finer than int8.
PRECISION_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


def write_openvino(onnx_file: Path, path: Path, spec: str, precision: Precision) -> None:
    """Convert an ONNX file.

    A bfloat16 network stores its weights in float16: half the size of float32, finer than bfloat16.
    """
    import openvino

    model = openvino.convert_model(onnx_file)
    model.set_rt_info(spec, [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=precision == "bfloat16")


def open_openvino(path: Path) -> tuple[RunFunction, str]:
    """Open a file on the CPU, in the precision of its spec.

    Returns: the function that runs it, and its spec as text.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    spec = model.get_rt_info([METADATA_KEY]).astype(str)
    settings = {
        "INFERENCE_PRECISION_HINT": _precision_hint(
            parse_json(spec)["precision"], core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        ),
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        outputs = compiled(images)
        return [outputs[index] for index in range(len(compiled.outputs))]

    return run, spec


def _precision_hint(precision: Precision, capabilities: Sequence[str]) -> str:
    """Return the precision to compute in: float32 if the processor has no bfloat16."""
    return PRECISION_HINTS[precision] if PRECISION_HINTS[precision].upper() in capabilities else "f32"
