"""Which image when: an order that depends on seed and epoch alone, not on worker processes."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One visit to one image. It travels to the worker process, so every worker knows the epoch."""

    epoch: int
    row: int


class EpochSampler(Sampler[Draw]):
    """Visits every row once an epoch; with several processes each has its share.

    order: `shuffled` anew each epoch, in shares of equal size (the few images left over differ from epoch to epoch);
    `given`: as listed, each image in exactly one process.
    """

    def __init__(self, size: int, *, seed: int, order: Literal["shuffled", "given"]) -> None:
        self.size = size
        self.seed = seed
        self.order = order
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0; Lightning calls this, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._rows())

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(self.epoch, int(row)) for row in self._rows())

    def _rows(self) -> np.ndarray:
        rank, world = _process()
        if self.order == "given":
            return np.arange(rank, self.size, world)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        return order[rank : self.size - self.size % world : world]


def draw_seed(seed: int, draw: Draw) -> int:
    """Mix seed, epoch and row into the 64-bit seed of one image's random changes."""
    return int(np.random.SeedSequence((seed, *draw)).generate_state(1, np.uint64)[0])


def seed_cpu(seed: int) -> None:
    """Seed torch's CPU generator alone: torch.manual_seed would reset a GPU's dropout at every image as well."""
    torch.default_generator.manual_seed(seed)


def _process() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
