"""A network as an OpenVINO file (.xml and .bin), made from ONNX, and OpenVINO to run it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mnsa.engines.card import CARD_KEY
from mnsa.engines.kinds import Precision
from mnsa.engines.session import Run

# OpenVINO chooses bfloat16 by itself where the processor has it, so float32 has to be said. What int8 leaves as it is
# may be rounded to bfloat16, which is finer than int8, where that is fast.
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


def write_openvino(onnx_file: Path, path: Path, card: str, precision: Precision) -> None:
    """Convert an ONNX file; weights of a bfloat16 network are kept in float16, which is finer and half as large."""
    import openvino

    model = openvino.convert_model(onnx_file)
    model.set_rt_info(card, [CARD_KEY])
    openvino.save_model(model, path, compress_to_fp16=precision == "bfloat16")


def open_openvino(path: Path) -> tuple[Run, str]:
    """What runs the file on the CPU in the precision of its card, and that card."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    card = model.get_rt_info([CARD_KEY]).astype(str)
    settings = {
        "INFERENCE_PRECISION_HINT": _hint(
            json.loads(card)["precision"], core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        ),
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        answers = compiled(images)
        return [answers[index] for index in range(len(compiled.outputs))]

    return run, card


def _hint(precision: Precision, abilities: Sequence[str]) -> str:
    """The format to compute in: float32 where the processor has no bfloat16."""
    return HINTS[precision] if HINTS[precision].upper() in abilities else "f32"
