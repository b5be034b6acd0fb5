"""ONNX files whose weights stand beside them, as those of very large networks do."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.export import Dim

from mnsa.engines.onnx_file import open_onnx, quantise, remove_onnx, set_card, weights_beside, write_onnx


@pytest.fixture
def onnx_files(tmp_path):
    """The same two convolutions, once in one file and once with the weights beside it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1)).eval()
    free = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    program = torch.export.export(network, (torch.rand(2, 3, 8, 12),), dynamic_shapes=free)
    small, large = tmp_path / "small" / "model.onnx", tmp_path / "large" / "model.onnx"
    for path in (small, large):
        path.parent.mkdir()
    write_onnx(program, small, ["mask_logits"])
    onnx.save_model(
        onnx.load(small), large, save_as_external_data=True, location=weights_beside(large).name, size_threshold=0
    )
    return small, large


def test_a_card_is_set_without_copying_the_weights_into_the_file(onnx_files):
    small, large = onnx_files
    before = large.stat().st_size
    for path in onnx_files:
        set_card(path, '{"precision": "float32"}')
    assert large.stat().st_size < before + 1000
    images = np.random.default_rng(0).random((1, 3, 20, 30), dtype=np.float32)
    (run, card), (other, _) = open_onnx(large), open_onnx(small)
    assert card == '{"precision": "float32"}'
    np.testing.assert_array_equal(run(images)[0], other(images)[0])


def test_int8_is_the_same_and_leaves_no_old_weights(onnx_files):
    images = np.random.default_rng(0).random((1, 3, 20, 30), dtype=np.float32)
    answers = []
    for path in onnx_files:
        quantise(path, [images])
        set_card(path, "{}")
        answers.append(open_onnx(path)[0](images)[0])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    small, large = onnx_files
    assert {file.name for file in small.parent.iterdir()} == {"model.onnx"}
    assert {file.name for file in large.parent.iterdir()} <= {"model.onnx", "model.onnx.data"}


def test_removing_takes_the_weights_too(onnx_files):
    for path in onnx_files:
        remove_onnx(path)
        assert not list(path.parent.iterdir())
