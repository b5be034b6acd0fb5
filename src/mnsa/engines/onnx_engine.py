"""Write a network as an ONNX file, and load and run it with ONNX Runtime.

An ONNX file holds 2 GB at most. torch puts the weights of a larger network into a second file, `external_data_path`.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from mnsa.engines.spec import INPUT_NAME, METADATA_KEY, RunFunction

OPSET = 20  # the first whose GridSample OpenVINO and ONNX Runtime both read

QUANTIZED_OPS = ("Conv", "Gemm")

CALIBRATION_PERCENT = (
    99.9  # of the activations in calibration; the extremes beyond would make the steps of all others coarse
)


def write_onnx(program: ExportedProgram, path: Path, outputs: Sequence[str]) -> None:
    """Write a program as ONNX, with named outputs and open batch, height and width."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of each node that it can't make faster
    converted: Any = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME], output_names=list(outputs), verbose=False
    )
    converted.save(path)


def external_data_path(path: Path) -> Path:
    """The file that holds an ONNX file's weights when they are too large for it."""
    return path.with_name(path.name + ".data")


def remove_onnx(path: Path) -> None:
    """Remove an ONNX file and, if they are not in it, its weights."""
    path.unlink()
    external_data_path(path).unlink(missing_ok=True)


def set_metadata(path: Path, spec: str) -> None:
    """Write the spec into the file's metadata, and call its open sides batch, height and width."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    batch, _, height, width = (side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim)
    names = {batch: "batch", height: "height", width: "width"}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            for symbol, name in names.items():
                if side.dim_param:  # to set one, even to nothing, would unset a fixed size
                    side.dim_param = side.dim_param.replace(symbol, name)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec})
    onnx.save(model, path)


def open_onnx(path: Path) -> tuple[RunFunction, str]:
    """What runs the file on the CPU, and its spec."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        answers: Sequence[np.ndarray] = session.run(None, {INPUT_NAME: images})
        return answers

    return run, session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")


def quantize_int8(path: Path, images: Iterable[np.ndarray]) -> None:
    """Put int8 into an ONNX file, its convolutions and linear maps, calibrated on normalised images (1, 3, h, w).

    Weights get a scale per channel, activations one per tensor, which clips the most extreme of the values seen. What
    samples (GridSample) and the projections before it stay float32: positions can't be rounded. They read the same maps
    as convolutions do, so each convolution rounds for itself alone (DedicatedQDQPair): OpenVINO leaves those in float32
    that share. Convolutions in groups, depthwise ones above all, stay float32 too: they have little to compute, and
    rounding them cost more of the answers than it saved. Weights use 7 bits: a CPU without VNNI adds two products of
    8 bits in 16 bits, where they saturate.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, is_large = path.with_name("prepared.onnx"), external_data_path(path).exists()
    quant_pre_process(
        path, prepared, skip_symbolic_shape=True, save_as_external_data=is_large, all_tensors_to_one_file=True,
        external_data_location=external_data_path(prepared).name,
    )  # fmt: skip
    remove_onnx(path)  # weights would be written behind those that are there
    shown = list(images)
    ranges = {name: [{"rmin": low, "rmax": high}] for name, (low, high) in activation_ranges(prepared, shown).items()}
    quantize_static(
        prepared, path, _CalibrationReader(shown[:1]), quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED_OPS), nodes_to_exclude=_grouped_convs(prepared),
        per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        extra_options={"DedicatedQDQPair": True, "TensorQuantOverrides": ranges}, use_external_data_format=is_large,
    )  # fmt: skip
    remove_onnx(prepared)


def activation_ranges(path: Path, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Between which two values most activations lie, for all that convolutions and linear maps read and give.

    Each image (1, 3, h, w) has its own two values, with KEPT_PERCENT of its activations between them; these are the
    mean of all images. One image is held at a time.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path, load_external_data=False)
    nodes = [node for node in model.graph.node if node.op_type in QUANTIZED_OPS]
    names = list(
        dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0]) if name != INPUT_NAME)
    )
    shown = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    opened = path.with_name("opened.onnx")
    onnx.save(model, opened)
    session = onnxruntime.InferenceSession(opened, providers=["CPUExecutionProvider"])
    beyond = (100 - CALIBRATION_PERCENT) / 2
    ends = []
    for image in images:
        seen = (image, *session.run(names, {INPUT_NAME: image}))
        ends.append([np.percentile(values, (beyond, 100 - beyond)) for values in seen])
    opened.unlink()
    return dict(zip((INPUT_NAME, *names), np.mean(ends, axis=0).astype(np.float32), strict=True))


class _CalibrationReader:
    """Hands out images as ONNX Runtime asks for them."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image; None at the end."""
        image = next(self.left, None)
        return None if image is None else {INPUT_NAME: image}


def _grouped_convs(path: Path) -> list[str]:
    """The names of a file's convolutions in groups."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if any(a.name == "group" and a.i > 1 for a in node.attribute)]
