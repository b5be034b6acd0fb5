"""The `paper` network is the released one: the same numbers from the same weights (needs about 8 GB of memory)."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mnsa.model.network import Network, build_network
from mnsa.model.released import read_released

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
TOLERANCE = 1e-4  # of each output's own standard deviation


def noise(name: str, shape: list[int]) -> np.ndarray:
    seed = zlib.crc32(f"mnsa-parity-a:{name}".encode()) & 0xFFFFFFFF
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def parity_tensor(name: str, shape: list[int]) -> Tensor:
    n = noise(name, shape)
    if name.endswith("running_var"):
        n = 1 + 0.1 * np.abs(n)
    elif name.endswith("running_mean"):
        n *= np.float32(0.1)
    elif len(shape) >= 2:
        n *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
    else:
        n = 1 + 0.1 * n if name.endswith("weight") else 0.1 * n
    return torch.from_numpy(n)


def released_checkpoint(*, classification_only: bool) -> dict[str, Tensor]:
    """The checkpoint that the parity numbers were computed with, key by key, aliases left out."""
    shapes = json.loads((PARITY / "state_dict_shapes.json").read_text())
    keys = [key for key in shapes if not key.startswith(("Encoders.", "features.classifier."))]
    if classification_only:
        keys = [key for key in keys if key.startswith(("features.", "classifier.", "attention."))]
    integers = [key for key in keys if key.endswith("num_batches_tracked")]
    floats = {key: parity_tensor(key, shapes[key]) for key in keys if key not in integers}
    return floats | dict.fromkeys(integers, torch.tensor(0))


def network_from(checkpoint: dict[str, Tensor]) -> Network:
    found = read_released(checkpoint)
    with torch.device("meta"):
        network = build_network(found.model, found.classes, found.mask_classes)
    network.load_state_dict(found.state, strict=True, assign=True)
    return network.eval()


def answers(network: Network, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    pyramid = network.features(images)
    yield "class_logits", network.classify(pyramid)[0]
    if network.decoder is None:
        return
    mask_logits, sides = network.segment_deeply(pyramid, images)
    yield "mask_logits", mask_logits
    for level, side in enumerate(sides, start=2):
        yield f"decoder_{level}", side


@pytest.mark.slow
@pytest.mark.parametrize("classification_only", [True, False], ids=["classification", "both tasks"])
def test_the_paper_network_computes_what_the_released_code_computes(classification_only) -> None:
    if not PARITY.is_dir():
        pytest.skip(f"the released code's numbers are not at {PARITY}")
    expected = np.load(PARITY / "expected.npz")
    images = torch.from_numpy(noise("input", [2, 3, 224, 224]))
    with torch.inference_mode():
        network = network_from(released_checkpoint(classification_only=classification_only))
        found = dict(answers(network, images))
    assert set(found) == ({"class_logits"} if classification_only else set(expected))
    for name, answer in found.items():
        error = np.abs(answer.numpy() - expected[name]).max() / expected[name].std()
        assert error < TOLERANCE, f"{name} is off by {error:.1e} standard deviations"
