"""Write a network for ONNX Runtime and OpenVINO, quantize it to int8, and open and run the files.

OpenVINO files (.xml and .bin) are converted from an ONNX file, which has at most 2 GB. torch writes the weights of a
larger network to a second file, `external_data_path`.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from mnsa.engines.spec import INPUT_NAME, METADATA_KEY, Precision, RunFunction
from mnsa.io import parse_json

OPSET = 20  # the first with a GridSample that OpenVINO and ONNX Runtime both support
QUANTIZED_OPS = ("Conv", "Gemm")
CALIBRATION_PERCENT = 99.9  # of the activations lie in the quantized range; more extreme ones would make steps coarse

# OpenVINO chooses bfloat16 by default if the processor supports it, so float32 is set explicitly. The layers of an int8
# network that are not quantized may use bfloat16, which is finer than int8.
PRECISION_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


def write_onnx(program: ExportedProgram, path: Path, outputs: Sequence[str]) -> None:
    """Write a program as ONNX, with named outputs and dynamic batch, height and width."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns about each node that it can't optimize
    converted: Any = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME], output_names=list(outputs), verbose=False
    )
    converted.save(path)


def external_data_path(path: Path) -> Path:
    """Return the file for the weights of an ONNX file when they are too large for it."""
    return path.with_name(path.name + ".data")


def remove_onnx(path: Path) -> None:
    """Remove an ONNX file and the file with its weights, if there is one."""
    path.unlink()
    external_data_path(path).unlink(missing_ok=True)


def set_metadata(path: Path, spec: str) -> None:
    """Write the spec into the file's metadata, and name its dynamic dimensions batch, height and width."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    batch, _, height, width = (dimension.dim_param for dimension in model.graph.input[0].type.tensor_type.shape.dim)
    names = {batch: "batch", height: "height", width: "width"}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            for symbol, name in names.items():
                if dimension.dim_param:  # assigning a name, even an empty one, would remove a fixed size
                    dimension.dim_param = dimension.dim_param.replace(symbol, name)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec})
    onnx.save(model, path)


def open_onnx(path: Path) -> tuple[RunFunction, str]:
    """Open an ONNX file on the CPU. Returns: the function that runs it, and its spec as text."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        outputs: Sequence[np.ndarray] = session.run(None, {INPUT_NAME: images})
        return outputs

    return run, session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")


def quantize_int8(path: Path, images: Iterable[np.ndarray]) -> None:
    """Quantize convolutions and linear layers of an ONNX file to int8, calibrated on normalized images (1, 3, h, w).

    - Weights have a scale per channel, activations a scale per tensor, which clips the most extreme values.
    - GridSample and the projections before it stay float32, because positions can't be rounded.
    - They read the same maps as convolutions. So each convolution has its own quantization nodes (DedicatedQDQPair);
      with shared ones, OpenVINO would compute the convolution in float32.
    - Grouped convolutions, such as depthwise ones, stay float32: quantizing them saves little time and costs accuracy.
    - Weights use 7 bits: a CPU without VNNI adds two products of 8 bits in 16 bits, where they saturate.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, has_external_data = path.with_name("prepared.onnx"), external_data_path(path).exists()
    quant_pre_process(
        path, prepared, skip_symbolic_shape=True, save_as_external_data=has_external_data, all_tensors_to_one_file=True,
        external_data_location=external_data_path(prepared).name,
    )  # fmt: skip
    remove_onnx(path)  # otherwise the new weights would be appended to the old ones
    calibration = list(images)
    ranges = {
        name: [{"rmin": low, "rmax": high}] for name, (low, high) in activation_ranges(prepared, calibration).items()
    }
    quantize_static(
        prepared, path, _CalibrationReader(calibration[:1]), quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED_OPS), nodes_to_exclude=_grouped_convs(prepared),
        per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        extra_options={"DedicatedQDQPair": True, "TensorQuantOverrides": ranges},
        use_external_data_format=has_external_data,
    )  # fmt: skip
    remove_onnx(prepared)


def activation_ranges(path: Path, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute the range (low, high) of each input and output of the convolutions and linear layers.

    The range of an image (1, 3, h, w) contains CALIBRATION_PERCENT of its activations. The result is the mean over
    images. The activations of one image are in memory at a time.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path, load_external_data=False)
    nodes = [node for node in model.graph.node if node.op_type in QUANTIZED_OPS]
    names = list(
        dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0]) if name != INPUT_NAME)
    )
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    with_outputs = path.with_name("with_outputs.onnx")
    onnx.save(model, with_outputs)
    session = onnxruntime.InferenceSession(with_outputs, providers=["CPUExecutionProvider"])
    tail = (100 - CALIBRATION_PERCENT) / 2
    ranges = []
    for image in images:
        activations = (image, *session.run(names, {INPUT_NAME: image}))
        ranges.append([np.percentile(values, (tail, 100 - tail)) for values in activations])
    with_outputs.unlink()
    return dict(zip((INPUT_NAME, *names), np.mean(ranges, axis=0).astype(np.float32), strict=True))


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


class _CalibrationReader:
    """Give images to ONNX Runtime one by one."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self.remaining = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image; None at the end."""
        image = next(self.remaining, None)
        return None if image is None else {INPUT_NAME: image}


def _grouped_convs(path: Path) -> list[str]:
    """Return the names of the grouped convolutions of a file."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if any(a.name == "group" and a.i > 1 for a in node.attribute)]


def _precision_hint(precision: Precision, capabilities: Sequence[str]) -> str:
    """Return the precision to compute in: float32 if the processor has no bfloat16."""
    return PRECISION_HINTS[precision] if PRECISION_HINTS[precision].upper() in capabilities else "f32"
