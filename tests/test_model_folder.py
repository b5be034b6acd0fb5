"""A network that is saved is loaded with equal outputs; what doesn't fit or is not finite is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mnsa.config import Config
from mnsa.errors import ModelError, RunError
from mnsa.model.network import Network, build_network
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import ModelSpec


@pytest.fixture
def network_and_spec(make_config: Callable[..., Config]) -> tuple[Network, ModelSpec]:
    """An untrained network of two classes and one mask class."""
    torch.manual_seed(4)
    config = make_config()
    return build_network(config.model, 2, 1).eval(), ModelSpec(config.model, config.data, ("a", "b"), ("vein",))


def test_a_loaded_network_has_the_outputs_of_the_saved_one(
    network_and_spec: tuple[Network, ModelSpec], tmp_path: Path
) -> None:
    network, spec = network_and_spec
    save_network(tmp_path / "model", network, spec)
    images = torch.rand(1, 3, 64, 64)
    for folder in (tmp_path, tmp_path / "model"):  # a run folder, or its model folder
        loaded, loaded_spec = load_network(folder)
        assert loaded_spec == spec
        assert not loaded.training
        with torch.inference_mode():
            for found, expected in zip(loaded(images), network(images), strict=True):
                torch.testing.assert_close(found, expected, rtol=0, atol=0)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert stored.keys() == network.state_dict().keys()


def test_weights_that_are_not_finite_are_not_saved(network_and_spec: tuple[Network, ModelSpec], tmp_path: Path) -> None:
    network, spec = network_and_spec
    name, weight = next(iter(network.named_parameters()))
    weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=f"{name} has values that are not finite"):
        save_network(tmp_path / "model", network, spec)
    assert not (tmp_path / "model").exists()


def test_a_spec_of_another_network_is_an_error(network_and_spec: tuple[Network, ModelSpec], tmp_path: Path) -> None:
    save_network(tmp_path / "model", *network_and_spec)
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"classes": ["a", "b", "c"]}))
    with pytest.raises(RunError, match="belong to different networks"):
        load_network(tmp_path)


def test_a_run_without_a_network_names_the_command_that_continues_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"mnsa train --resume {tmp_path}"):
        load_network(tmp_path)
