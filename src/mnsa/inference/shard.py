"""The share of the work that is this process's, as torchrun hands it out: RANK of WORLD_SIZE."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch

from mnsa.errors import ConfigError


class Shard(NamedTuple):
    """Share number `rank`, counted from 0, of `world`."""

    rank: int = 0
    world: int = 1


def shard_of(environment: Mapping[str, str] = os.environ) -> Shard:
    """Read the share from RANK and WORLD_SIZE; without them it is everything. Raises: ConfigError."""
    rank, world = environment.get("RANK"), environment.get("WORLD_SIZE")
    if rank is None and world is None:
        return Shard()
    try:
        shard = Shard(int(rank or ""), int(world or ""))
    except ValueError:
        shard = Shard(-1, 0)
    if not 0 <= shard.rank < shard.world:
        raise ConfigError(
            f"RANK is {rank!r} and WORLD_SIZE {world!r}; expected whole numbers, 0 <= RANK < WORLD_SIZE, as torchrun "
            "sets them. Set both, or neither."
        )
    return shard


def own_device(environment: Mapping[str, str] = os.environ) -> torch.device:
    """The GPU of this process, by torchrun's LOCAL_RANK, or the processor."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = environment.get("LOCAL_RANK", "0")
    return torch.device("cuda", int(local) % torch.cuda.device_count() if local.isdecimal() else 0)
