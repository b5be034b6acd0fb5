"""The share of a process comes from torchrun's variables, and is refused when they make no sense."""

import pytest

from mnsa.batch.batching import Shard, shard_from_env
from mnsa.errors import ConfigError


def test_without_torchrun_the_share_is_everything():
    assert shard_from_env({}) == Shard(0, 1)


def test_torchrun_says_which_share():
    assert shard_from_env({"RANK": "2", "WORLD_SIZE": "5"}) == Shard(2, 5)


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"},
     {"RANK": "one", "WORLD_SIZE": "2"}],
)  # fmt: skip
def test_a_share_that_is_none_is_refused(environment):
    with pytest.raises(ConfigError, match="0 <= RANK < WORLD_SIZE"):
        shard_from_env(environment)
