"""A network as an ONNX file, and ONNX Runtime to run it.

A file holds 2 GB at most, so torch puts the weights of a network that comes near into a second one, `weights_beside`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from mnsa.engines.card import CARD_KEY, INPUT
from mnsa.engines.session import Run

OPSET = 20  # the first whose GridSample OpenVINO and ONNX Runtime both read


def write_onnx(program: ExportedProgram, path: Path, outputs: Sequence[str]) -> None:
    """Write a program as ONNX, with named outputs and open batch, height and width."""
    converted: Any = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=list(outputs), verbose=False
    )
    converted.save(path)


def weights_beside(path: Path) -> Path:
    """The file that holds an ONNX file's weights when they are too large for it."""
    return path.with_name(path.name + ".data")


def remove_onnx(path: Path) -> None:
    """Remove an ONNX file and, if they are not in it, its weights."""
    path.unlink()
    weights_beside(path).unlink(missing_ok=True)


def set_card(path: Path, card: str) -> None:
    """Write the card into the file's metadata, and call its open sides batch, height and width."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    batch, _, height, width = (side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim)
    names = {batch: "batch", height: "height", width: "width"}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            for symbol, name in names.items():
                if side.dim_param:  # to set one, even to nothing, would unset a fixed size
                    side.dim_param = side.dim_param.replace(symbol, name)
    onnx.helper.set_model_props(model, {CARD_KEY: card})
    onnx.save(model, path)


def open_onnx(path: Path) -> tuple[Run, str]:
    """What runs the file on the CPU, and its card."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        answers: Sequence[np.ndarray] = session.run(None, {INPUT: images})
        return answers

    return run, session.get_modelmeta().custom_metadata_map.get(CARD_KEY, "")


def quantise(path: Path, images: Iterable[np.ndarray]) -> None:
    """Put int8 into an ONNX file, its convolutions and linear maps, calibrated on normalised images (1, 3, h, w).

    Weights get a scale per channel, activations one per tensor, from the extremes seen. What samples (GridSample) and
    the projections before it stay float32: positions can't be rounded.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image}

    prepared, is_large = path.with_name("prepared.onnx"), weights_beside(path).exists()
    quant_pre_process(
        path, prepared, skip_symbolic_shape=True, save_as_external_data=is_large, all_tensors_to_one_file=True,
        external_data_location=weights_beside(prepared).name,
    )  # fmt: skip
    remove_onnx(path)  # weights would be written behind those that are there
    quantize_static(
        prepared, path, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv", "Gemm"],
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        use_external_data_format=is_large,
    )  # fmt: skip
    remove_onnx(prepared)
