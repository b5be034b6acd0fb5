"""The weights that the upstream code's numbers were computed with, drawn anew from their names and shapes."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PARITY = Path(__file__).parents[1].parent / "shared" / "parity"
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


def upstream_checkpoint(*, classification_only: bool) -> dict[str, Tensor]:
    """The checkpoint that the parity numbers were computed with, key by key, aliases left out."""
    shapes = json.loads((PARITY / "state_dict_shapes.json").read_text())
    keys = [key for key in shapes if not key.startswith(("Encoders.", "features.classifier."))]
    if classification_only:
        keys = [key for key in keys if key.startswith(("features.", "classifier.", "attention."))]
    integers = [key for key in keys if key.endswith("num_batches_tracked")]
    floats = {key: parity_tensor(key, shapes[key]) for key in keys if key not in integers}
    return floats | dict.fromkeys(integers, torch.tensor(0))


def images() -> Tensor:
    """What the upstream network was shown: (2, 3, 224, 224)."""
    return torch.from_numpy(noise("input", [2, 3, 224, 224]))


def relative_errors(found: dict[str, Tensor]) -> dict[str, float]:
    """How far each output is off, in standard deviations of the expected one."""
    expected = np.load(PARITY / "expected.npz")
    return {
        name: float(np.abs(answer.numpy() - expected[name]).max() / expected[name].std())
        for name, answer in found.items()
    }
