"""A run folder gives back what was put in, holds no pickle, and says what is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mnsa.config import Config, dump_config
from mnsa.data.manifest import read_manifest
from mnsa.errors import ModelError, RunError
from mnsa.inference.predictor import load
from mnsa.model.network import Network, build_network
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import (
    ModelSpec,
    RunFolder,
    create_run_folder,
    dataset_provenance,
    find_run_dataset,
    open_run_folder,
    read_run_config,
    read_run_dataset,
)
from narrowing import instance_of, some


@pytest.mark.parametrize("classes", [("a", "b", "c"), ()])
@pytest.mark.parametrize("mask_classes", [("vein",), ("background", "leaf", "vein"), ()])
def test_saved_network_gives_exactly_the_same_outputs(
    make_config: Callable[..., Config], tmp_path: Path, classes: tuple[str, ...], mask_classes: tuple[str, ...]
) -> None:
    if not classes and not mask_classes:
        pytest.skip("no network without a task")
    config = make_config()
    network = build_network(config.model, len(classes), len(mask_classes))
    network.train()(torch.randn(4, 3, 64, 64))  # moves the BatchNorm statistics
    card = ModelSpec(config.model, config.data, classes, mask_classes)
    save_network(tmp_path / "model", network, card)
    loaded, loaded_card = load_network(tmp_path)
    assert loaded_card == card
    assert not loaded.training
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        for ours, theirs in zip(network.eval()(images), loaded(images), strict=True):
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def test_model_folder_has_weights_config_and_card_and_no_pickle(finished: RunFolder) -> None:
    files = {path.name: path.read_bytes() for path in finished.model_folder.iterdir()}
    assert set(files) == {"model.safetensors", "model.safetensors.sha256", "config.json", "README.md"}
    header = int.from_bytes(files["model.safetensors"][:8], "little")
    json.loads(files["model.safetensors"][8 : 8 + header])  # safetensors: a JSON header, then plain numbers
    json.loads(files["config.json"])


def bias_of(network: Network) -> torch.Tensor:
    return instance_of(torch.nn.Linear, some(network.class_head).classifier).bias


def test_saving_again_replaces_the_network_and_leaves_no_temporary_files(
    own_run: RunFolder, finished: RunFolder
) -> None:
    network, card = load_network(own_run.path)
    torch.nn.init.ones_(bias_of(network))
    save_network(own_run.model_folder, network, card)
    assert torch.equal(bias_of(load_network(own_run.path)[0]), torch.ones(3))
    assert {path.name for path in own_run.model_folder.iterdir()} == {
        path.name for path in finished.model_folder.iterdir()
    }


def test_run_folder_and_model_folder_can_be_loaded(finished: RunFolder, tmp_path: Path) -> None:
    alone = shutil.copytree(finished.model_folder, tmp_path / "sent by mail")
    state, alone_state = (load_network(path)[0].state_dict() for path in (finished.path, alone))
    assert all(torch.equal(state[name], alone_state[name]) for name in state)
    predictor = load(alone)
    assert len(predictor.classes) == 3
    assert predictor.mask_classes == ("vein",)
    assert predictor.transform(torch.zeros(3, 70, 90, dtype=torch.uint8))[0].shape == (3, 64, 64)


def test_config_and_provenance_can_be_read(
    finished: RunFolder, dataset: Path, make_config: Callable[..., Config]
) -> None:
    assert dump_config(read_run_config(open_run_folder(finished.path))) == dump_config(make_config())
    assert read_run_dataset(finished) == (dataset, read_manifest(dataset).digest())
    provenance = json.loads(finished.provenance_file.read_text())
    assert provenance["seed"] == 1
    assert {"mnsa", "torch", "timm", "lightning"} <= provenance["versions"].keys()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_model_file_is_named_with_the_command_to_resume(own_run: RunFolder, name: str) -> None:
    (own_run.model_folder / name).unlink()
    with pytest.raises(RunError, match=rf"model/{name} is missing.*mnsa train --resume"):
        load_network(own_run.path)


@pytest.mark.parametrize("name", ["config.toml", "provenance.json"])
def test_folder_without_config_or_provenance_is_no_run(own_run: RunFolder, name: str) -> None:
    (own_run.path / name).unlink()
    with pytest.raises(RunError, match=f"is no run folder: {name} is missing"):
        open_run_folder(own_run.path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda data: data[: len(data) // 2]),
        ("model.safetensors", lambda data: b""),
        ("model.safetensors", lambda data: b"\xff" * len(data)),
        ("config.json", lambda data: data[: len(data) // 2]),
        ("config.json", lambda data: b"[]"),
        ("config.json", lambda data: b"\xff\xfe\x00"),
        ("config.json", lambda data: data.replace(b'"attention": "mean_max"', b'"attention": "none"')),
        ("config.json", lambda data: data.replace(b'"classes"', b'"klasses"')),
        ("config.json", lambda data: data.replace(b"test_efficientnet", b"no_such_backbone")),
    ],
)
def test_damaged_model_is_refused(own_run: RunFolder, name: str, damage: Callable[..., Any]) -> None:
    file = own_run.model_folder / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RunError, match="is damaged"):
        load_network(own_run.path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.999])
def test_a_single_flipped_bit_in_the_weights_is_found(own_run: RunFolder, place: float) -> None:
    file = own_run.model_folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"is damaged: .*SHA-256"):
        load_network(own_run.path)


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(own_run: RunFolder) -> None:
    network, card = load_network(own_run.path)
    torch.nn.init.constant_(bias_of(network), float("nan"))
    with pytest.raises(ModelError, match=r"class_head\.classifier\.bias has values that are not finite"):
        save_network(own_run.model_folder, network, card)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, own_run.model_folder / "model.safetensors")
    (own_run.model_folder / "model.safetensors.sha256").unlink()
    with pytest.raises(RunError, match=r"class_head\.classifier\.bias has values that are not finite"):
        load_network(own_run.path)


def test_the_weights_have_the_mode_that_the_umask_gives(own_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    save_network(own_run.model_folder, *load_network(own_run.path))
    assert (own_run.model_folder / "model.safetensors").stat().st_mode == (tmp_path / "file").stat().st_mode


def test_weights_that_may_not_be_read_are_not_called_damaged(
    own_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"model\.safetensors can't be read: permission denied"):
        load_network(own_run.path)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_damaged_provenance_is_refused(own_run: RunFolder, text: str) -> None:
    own_run.provenance_file.write_text(text)
    with pytest.raises(RunError, match=r"provenance\.json can't be read"):
        read_run_dataset(own_run)


def test_a_data_set_that_has_moved_is_named_with_the_option(
    finished: RunFolder, own_run: RunFolder, dataset: Path, tmp_path: Path
) -> None:
    assert find_run_dataset(finished) == dataset
    provenance = json.loads(own_run.provenance_file.read_text())
    own_run.provenance_file.write_text(json.dumps({**provenance, "dataset": str(tmp_path / "gone")}))
    assert find_run_dataset(own_run, dataset) == dataset
    with pytest.raises(RunError, match=r"gone, the data set of .* add --data FOLDER"):
        find_run_dataset(own_run)


def test_existing_folder_is_not_used_for_a_new_run(
    own_run: RunFolder, make_config: Callable[..., Config], dataset: Path
) -> None:
    before = {path: path.read_bytes() for path in own_run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"exists and was not changed.*--resume"):
        create_run_folder(own_run.path, make_config(), dataset_provenance(read_manifest(dataset), dataset))
    assert {path: path.read_bytes() for path in own_run.path.rglob("*") if path.is_file()} == before


def test_unwritable_run_folder_is_refused(tmp_path: Path, make_config: Callable[..., Config], dataset: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"can't be written: .*Choose another --out"):
        create_run_folder(tmp_path / "file" / "run", make_config(), dataset_provenance(read_manifest(dataset), dataset))
