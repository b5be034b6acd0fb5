"""The `paper` network is the released one: the same numbers from the same weights (needs about 4 GB of memory)."""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mnsa.config import ModelConfig
from mnsa.model.network import Network, build_network

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
TOLERANCE = 1e-4  # of each output's own standard deviation

# Names of this project's tensors -> the released ones, level numbers kept.
RENAMINGS = [
    (r"backbone\.net\.features_", r"features.features."),
    (r"attention\.score", r"attention"),
    (r"class_head\.classifier", r"classifier"),
    (r"enhancer\.levels\.(\d)\.branches\.deform(\d)\.offsets", r"deconv_layers_\2.\1.offset_generator"),
    (r"enhancer\.levels\.(\d)\.branches\.deform(\d)\.conv", r"deconv_layers_\2.\1.deform_conv"),
    (r"enhancer\.levels\.(\d)\.branches\.atrous(\d)", r"atrous_conv_layers_\2.\1"),
    (r"enhancer\.levels\.(\d)\.branches\.context\.conv", r"max_min_expan_layers.\1"),
    (r"enhancer\.skips\.(\d)", r"tranformers.\1"),
    (r"decoder\.bridge\.0", r"center"),
    (r"decoder\.bridge\.1", r"center2"),
    (r"decoder\.levels\.(\d)\.mix", r"decoder_layers.\1.layers.1"),
    (r"decoder\.levels\.(\d)\.refine", r"decoder_layers.\1.layers.2"),
    (r"mask_head\.conv", r"decoder_layers.1.layers.2.3"),
]


def released_name(ours: str) -> str:
    numbered = re.sub(r"\b(levels|skips)\.(\d)", lambda m: f"{m[1]}.{int(m[2]) + 1}", ours)
    for pattern, replacement in RENAMINGS:
        if re.match(pattern, numbered):
            return re.sub(pattern, replacement, numbered)
    raise AssertionError(f"no released name for {ours}")


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = zlib.crc32(f"mnsa-parity-a:{name}".encode()) & 0xFFFFFFFF
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def parity_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    n = noise(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(n)
    if name.endswith("running_mean"):
        return 0.1 * n
    if len(shape) >= 2:
        return n * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return 1 + 0.1 * n if name.endswith("weight") else 0.1 * n


def fill(network: Network) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(parity_tensor(released_name(name), tuple(tensor.shape))))


def answers(network: Network, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    pyramid = network.features(images)
    yield "class_logits", network.classify(pyramid)[0]
    mask_logits, sides = network.segment_deeply(pyramid, images)
    yield "mask_logits", mask_logits
    for level, side in enumerate(sides, start=2):
        yield f"decoder_{level}", side


@pytest.mark.slow
def test_the_paper_preset_computes_what_the_released_code_computes() -> None:
    if not PARITY.is_dir():
        pytest.skip(f"the released code's numbers are not at {PARITY}")
    network = build_network(ModelConfig(preset="paper", pretrained="none"), classes=200, mask_classes=1).eval()
    images = torch.from_numpy(noise("input", (2, 3, 224, 224)))
    expected = np.load(PARITY / "expected.npz")
    with torch.inference_mode():
        fill(network)
        for name, answer in answers(network, images):
            error = np.abs(answer.numpy() - expected[name]).max() / expected[name].std()
            assert error < TOLERANCE, f"{name} is off by {error:.1e} standard deviations"
