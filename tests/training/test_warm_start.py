"""A run can be initialized with the weights of another: each part completely or not at all, and reported."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mnsa.config import Config, ModelConfig
from mnsa.data.manifest import read_manifest
from mnsa.errors import MnsaError, ModelError
from mnsa.model.network import build_network
from mnsa.run_folder import RunFolder
from mnsa.training.fit import train
from mnsa.training.warm_start import load_matching_parts, read_init_weights
from upstream_names import upstream_state

SEGMENTATION = {"tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 1}


def equal_parts(state: dict[str, Any], other: Any, *prefixes: str) -> bool:
    keys = [key for key in state if key.startswith(prefixes)]
    return bool(keys) and all(torch.equal(state[key], other[key]) for key in keys)


def test_a_segmentation_stage_keeps_the_class_head_of_the_initial_weights(
    finished: RunFolder,
    dataset: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, logger="mnsa")
    config = make_config(SEGMENTATION, train={"init_from": str(finished.path)})
    run = train(config, dataset, tmp_path / "second")
    before, after = (load_file(folder / "model.safetensors") for folder in (finished.model_folder, run.model_folder))
    assert equal_parts(before, after, "backbone.", "attention.", "class_head.")
    assert not equal_parts(before, after, "decoder.")
    assert f"Loaded from {finished.path}: backbone, attention, class_head, enhancer, decoder" in caplog.messages
    assert capsys.readouterr().out == ""


def test_both_kinds_of_weights_files_can_be_read(
    finished: RunFolder, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    state = load_file(finished.model_folder / "model.safetensors")
    save_file(state, tmp_path / "ours.safetensors")
    torch.save({"net": state}, tmp_path / "ours.pth")
    assert (
        read_init_weights(tmp_path / "ours.pth", "mean_max").keys()
        == read_init_weights(tmp_path / "ours.safetensors", "mean_max").keys()
    )


def test_an_upstream_checkpoint_can_be_read(tmp_path: Path) -> None:
    config = ModelConfig(preset="paper", backbone="resnet18", pretrained="none", attention="mean")
    network, other = (build_network(config, 3, 0) for _ in range(2))
    torch.save(upstream_state(network), tmp_path / "upstream.pth")
    load_matching_parts(other, read_init_weights(tmp_path / "upstream.pth", "mean"), "upstream.pth")
    assert equal_parts(network.state_dict(), other.state_dict(), "backbone.", "class_head.")


def test_a_head_for_other_classes_keeps_its_new_weights(
    finished: RunFolder, dataset: Path, make_config: Callable[..., Config]
) -> None:
    weights = read_init_weights(finished.path, "mean_max")
    network = build_network(make_config().model, len(read_manifest(dataset).classes) + 1, 0)
    head = network.class_head.classifier.weight.clone()  # type: ignore[operator]
    message = load_matching_parts(network, weights, "a run")
    assert message == "Loaded from a run: backbone, attention; new: class_head"
    assert torch.equal(network.class_head.classifier.weight, head)  # type: ignore[arg-type]


def test_another_backbone_is_an_error(finished: RunFolder) -> None:
    network = build_network(ModelConfig(preset="paper", backbone="resnet18", pretrained="none"), 3, 0)
    with pytest.raises(ModelError, match="no weights of the backbone resnet18"):
        load_matching_parts(network, read_init_weights(finished.path, "mean_max"), "a run")


def test_a_missing_weights_file_is_an_error_before_the_run_folder_is_created(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(MnsaError, match=r"gone\.pth"):
        train(make_config(train={"init_from": str(tmp_path / "gone.pth")}), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()
