"""ONNX files with weights inside and in a second file; quantization; the precision that OpenVINO computes in."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from mnsa.engines.runtimes import (
    _precision_hint,
    activation_ranges,
    external_data_path,
    open_onnx,
    quantize_int8,
    remove_onnx,
    set_metadata,
    write_onnx,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def onnx_files(tmp_path: Path) -> tuple[Path, Path]:
    """Two convolutions, once in one file and once with the weights in a second file."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1)).eval()
    dynamic = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    program = torch.export.export(network, (torch.rand(2, 3, 8, 12),), dynamic_shapes=dynamic)
    small, large = tmp_path / "small" / "model.onnx", tmp_path / "large" / "model.onnx"
    for path in (small, large):
        path.parent.mkdir()
    write_onnx(program, small, ["mask_logits"])
    onnx.save_model(
        onnx.load(small), large, save_as_external_data=True, location=external_data_path(large).name, size_threshold=0
    )
    return small, large


def test_setting_the_spec_does_not_copy_the_weights_into_the_file(onnx_files: tuple[Path, Path]) -> None:
    small, large = onnx_files
    before = large.stat().st_size
    for path in onnx_files:
        set_metadata(path, '{"precision": "float32"}')
    assert large.stat().st_size < before + 1000
    images = np.random.default_rng(0).random((1, 3, 20, 30), dtype=np.float32)
    (run, spec), (other, _) = open_onnx(large), open_onnx(small)
    assert spec == '{"precision": "float32"}'
    np.testing.assert_array_equal(run(images)[0], other(images)[0])


def test_int8_is_equal_for_both_files_and_leaves_no_old_weights(onnx_files: tuple[Path, Path]) -> None:
    images = np.random.default_rng(0).random((1, 3, 20, 30), dtype=np.float32)
    outputs = []
    for path in onnx_files:
        quantize_int8(path, [images])
        set_metadata(path, "{}")
        outputs.append(open_onnx(path)[0](images)[0])
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)
    small, large = onnx_files
    assert {file.name for file in small.parent.iterdir()} == {"model.onnx"}
    assert {file.name for file in large.parent.iterdir()} <= {"model.onnx", "model.onnx.data"}


def test_each_convolution_has_its_own_quantization_nodes(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)

        def forward(self, images: Any) -> torch.Tensor:
            return torch.cat((self.one(images), self.other(images), images.square()), dim=1)

    path = tmp_path / "model.onnx"
    write_onnx(torch.export.export(Shared().eval(), (torch.rand(1, 3, 8, 8),)), path, ["mask_logits"])
    quantize_int8(path, [np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)])
    graph = onnx.load(path).graph
    read = Counter(name for node in graph.node for name in node.input)
    quantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        assert set(node.input[:2]) <= quantized
        assert read[node.input[0]] == 1


def test_depthwise_convolutions_stay_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)).eval(), tmp_path / "model.onnx"
    write_onnx(torch.export.export(network, (torch.rand(1, 3, 8, 8),)), path, ["mask_logits"])
    quantize_int8(path, [np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)])
    graph = onnx.load(path).graph
    quantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    dense, depthwise = (node for node in graph.node if node.op_type == "Conv")
    assert set(dense.input[:2]) <= quantized
    assert depthwise.input[1] == "1.weight"


def test_activation_ranges_are_the_mean_of_the_percentiles_of_each_image(onnx_files: tuple[Path, Path]) -> None:
    path, _ = onnx_files
    images = [np.random.default_rng(seed).random((1, 3, 60, 60), dtype=np.float32) * (seed + 1) for seed in range(2)]
    ranges = activation_ranges(path, images)
    run = open_onnx(path)[0]
    for name, activations in (("images", images), ("mask_logits", [run(image)[0] for image in images])):
        expected = np.mean([np.percentile(values, (0.05, 99.95)) for values in activations], axis=0)
        np.testing.assert_allclose(ranges[name], expected, rtol=1e-4)
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx"}


def test_an_extreme_value_does_not_make_the_steps_coarser(onnx_files: tuple[Path, Path]) -> None:
    path, _ = onnx_files
    image = np.random.default_rng(0).random((1, 3, 300, 300), dtype=np.float32)
    expected, extreme = open_onnx(path)[0](image)[0], image.copy()
    extreme[0, :, 30, 30] = 1000
    quantize_int8(path, [image, extreme])
    set_metadata(path, "{}")
    assert np.abs(open_onnx(path)[0](image)[0] - expected).mean() < 0.1 * expected.std()


def test_the_weights_are_removed_with_the_file(onnx_files: tuple[Path, Path]) -> None:
    for path in onnx_files:
        remove_onnx(path)
        assert not list(path.parent.iterdir())


@pytest.mark.parametrize(("precision", "hint"), [("float32", "f32"), ("bfloat16", "bf16"), ("int8", "bf16")])
def test_lower_precisions_use_bfloat16_if_the_processor_has_it(
    precision: Literal["float32", "bfloat16", "int8"], hint: str
) -> None:
    assert _precision_hint(precision, ["FP32", "BF16", "INT8"]) == hint
    assert _precision_hint(precision, ["FP32", "INT8"]) == "f32"
