"""The shard of a process comes from torchrun's variables; values that make no sense are an error."""

import pytest

from mnsa.batch.batching import Shard, shard_from_env
from mnsa.errors import ConfigError


def test_without_torchrun_the_shard_is_all_images() -> None:
    assert shard_from_env({}) == Shard(0, 1)


def test_torchrun_sets_the_shard() -> None:
    assert shard_from_env({"RANK": "2", "WORLD_SIZE": "5"}) == Shard(2, 5)


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"},
     {"RANK": "one", "WORLD_SIZE": "2"}],
)  # fmt: skip
def test_variables_that_make_no_shard_are_an_error(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="0 <= RANK < WORLD_SIZE"):
        shard_from_env(environment)
