"""Exported networks equal the eager one, at other sizes and batches than the exporter's example."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnsa.engines.runtimes import open_onnx, open_openvino, set_metadata, write_onnx, write_openvino
from mnsa.engines.torch_engine import export_program, open_torch, output_names, write_torch
from mnsa.errors import ModelError
from mnsa.model.network import Network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from narrowing import some

SIZES = [(1, 64, 64), (3, 33, 71), (2, 97, 130), (1, 51, 96)]  # batch, height, width
EVERYWHERE = (0.125,) * 5  # deformable branches at all levels
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "half, deformable everywhere": {"backbone": "resnet18", "mask_resolution": "half", "widths": EVERYWHERE},
    "small's backbone": {"backbone": "tf_efficientnet_lite0", "mask_classes": 1},
    "odd levels": {"backbone": "vgg19", "widths": (0.01,) * 5},
    "classification": {"mask_classes": 0, "attention": "mean"},
    "segmentation by a unet": {"classes": 0, "decoder": "unet"},
    "unet3plus, no attention": {"decoder": "unet3plus", "source_channels": 4, "attention": "none"},
}
SPEC = '{"precision": "float32"}'


def export(network: Network, folder: Path) -> tuple[tuple[str, ...], dict[str, Callable[..., Sequence[np.ndarray]]]]:
    """Export a network for all three engines. Returns: names of the outputs, and the functions that run them."""
    fused, names = deepcopy(network), output_names(network)
    fuse_batch_norms(fused)
    program = export_program(fused)
    write_torch(program, folder / "model.pt2", SPEC)
    write_onnx(program, folder / "model.onnx", names)
    set_metadata(folder / "model.onnx", SPEC)
    write_openvino(folder / "model.onnx", folder / "model.xml", SPEC, "float32")
    opened = open_torch(folder / "model.pt2"), open_onnx(folder / "model.onnx"), open_openvino(folder / "model.xml")
    assert [spec for _, spec in opened] == [SPEC] * 3
    return names, dict(zip(("torch", "onnx", "openvino"), (run for run, _ in opened), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_engine_has_the_outputs_of_the_eager_network_at_any_size(
    make_network: Callable[..., Network], tmp_path: Path, kind: str
) -> None:
    network = make_network(**KINDS[kind])
    names, engines = export(network, tmp_path)
    for size in SIZES:
        images = torch.randn(size[0], 3, *size[1:])
        with torch.inference_mode():
            expected = network(images)._asdict()
        assert [name for name, output in expected.items() if output is not None] == list(names)
        for run in engines.values():
            for name, found in zip(names, run(images.numpy()), strict=True):
                np.testing.assert_allclose(found, expected[name].numpy(), atol=1e-4, rtol=1e-4)


def test_trees_cannot_be_exported(make_network: Callable[..., Network]) -> None:
    network = make_network()
    some(network.class_head).classifier = nn.Identity()
    with pytest.raises(ModelError, match="Boosted trees are no tensor program"):
        export_program(network)
