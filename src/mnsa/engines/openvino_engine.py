"""Convert an ONNX file to OpenVINO (.xml and .bin), and load and run it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mnsa.engines.spec import METADATA_KEY, Precision, RunFunction
from mnsa.io import parse_json

# OpenVINO chooses bfloat16 by itself where the processor has it, so float32 has to be said. What int8 leaves as it is
# may be rounded to bfloat16, which is finer than int8, where that is fast.
PRECISION_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


def write_openvino(onnx_file: Path, path: Path, spec: str, precision: Precision) -> None:
    """Convert an ONNX file; weights of a bfloat16 network are kept in float16, which is finer and half as large."""
    import openvino

    model = openvino.convert_model(onnx_file)
    model.set_rt_info(spec, [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=precision == "bfloat16")


def open_openvino(path: Path) -> tuple[RunFunction, str]:
    """What runs the file on the CPU in the precision of its spec, and that spec."""
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
        answers = compiled(images)
        return [answers[index] for index in range(len(compiled.outputs))]

    return run, spec


def _precision_hint(precision: Precision, abilities: Sequence[str]) -> str:
    """The format to compute in: float32 where the processor has no bfloat16."""
    return PRECISION_HINTS[precision] if PRECISION_HINTS[precision].upper() in abilities else "f32"
