"""The share of a process comes from torchrun's variables, and is refused when they make no sense."""

import pytest

from mnsa.errors import ConfigError
from mnsa.inference.shard import Shard, shard_of


def test_without_torchrun_the_share_is_everything():
    assert shard_of({}) == Shard(0, 1)


def test_torchrun_says_which_share():
    assert shard_of({"RANK": "2", "WORLD_SIZE": "5"}) == Shard(2, 5)


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"},
     {"RANK": "one", "WORLD_SIZE": "2"}],
)  # fmt: skip
def test_a_share_that_is_none_is_refused(environment):
    with pytest.raises(ConfigError, match="0 <= RANK < WORLD_SIZE"):
        shard_of(environment)
