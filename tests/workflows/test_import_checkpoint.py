"""A checkpoint of the upstream code becomes a run folder whose network gives the upstream outputs."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import mnsa as package
from mnsa.config import ModelConfig
from mnsa.model.network import Network, build_network
from mnsa.run_folder import open_run_folder, read_run_config
from upstream_names import mganet_state, upstream_state

if TYPE_CHECKING:
    from conftest import Finished


class Malice:
    """Pickles as a call."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("this must not be run",)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    config = ModelConfig(preset="paper", backbone="resnet18", pretrained="none", widths=(1 / 16,) * 5)
    return build_network(config, classes=3, mask_classes=1).eval()


@pytest.fixture
def checkpoint(network: Network, tmp_path: Path) -> Path:
    file = tmp_path / "best.pth"
    torch.save({"net": {f"module.{k}": v for k, v in upstream_state(network).items()}, "epoch": 3, "acc": 0.5}, file)
    return file


@pytest.mark.slow
def test_the_imported_network_answers_as_the_released_one(
    mnsa: "Callable[..., Finished]", network: Network, checkpoint: Path, tmp_path: Path
) -> None:
    imported = mnsa("import-checkpoint", checkpoint, "--out", tmp_path / "run")
    assert imported.code == 0, imported.err
    predictor = package.load(tmp_path / "run")
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        ours, theirs = predictor(images), network(images)
    torch.testing.assert_close(ours.class_logits, theirs.class_logits)  # but for rounding: its norms are folded
    torch.testing.assert_close(ours.mask_logits, theirs.mask_logits)  # but for rounding: its norms are folded
    assert (predictor.classes, predictor.mask_classes) == (("1", "2", "3"), ("vein",))


@pytest.mark.slow
def test_the_run_folder_says_where_it_comes_from_and_how_to_go_on(
    mnsa: "Callable[..., Finished]", checkpoint: Path, tmp_path: Path
) -> None:
    mnsa("import-checkpoint", checkpoint, "--out", tmp_path / "run")
    run = open_run_folder(tmp_path / "run")
    assert json.loads(run.provenance_file.read_text())["checkpoint"] == str(checkpoint)
    assert [stage.name for stage in read_run_config(run).stages] == ["classification", "segmentation"]
    scored = mnsa("evaluate", tmp_path / "run")
    assert scored.code == 2
    assert "--data" in scored.err


def test_mganet_becomes_a_classifier(mnsa: "Callable[..., Finished]", network: Network, tmp_path: Path) -> None:
    classifier = {k: v for k, v in network.state_dict().items() if k.startswith(("backbone", "attention", "class"))}
    bare = build_network(ModelConfig(preset="paper", backbone="resnet18", pretrained="none"), 3, 0)
    bare.load_state_dict(classifier)
    torch.save(mganet_state(bare), tmp_path / "mganet.pth")
    assert mnsa("import-checkpoint", tmp_path / "mganet.pth", "--out", tmp_path / "run").code == 0
    assert package.load(tmp_path / "run").mask_classes == ()


@pytest.mark.parametrize("content", [b"", b"no zip", pickle.dumps(Malice()), pickle.dumps({"net": Malice()})])
def test_a_file_that_is_no_checkpoint_is_refused_and_not_run(
    mnsa: "Callable[..., Finished]", tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    refused = mnsa("import-checkpoint", tmp_path / "bad.pth", "--out", tmp_path / "run")
    assert refused.code == 2
    assert "bad.pth" in refused.err
    assert "this must not be run" not in refused.out
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_something_else_is_refused_by_name(mnsa: "Callable[..., Finished]", tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    refused = mnsa("import-checkpoint", tmp_path / "other.pth", "--out", tmp_path / "run")
    assert refused.code == 2
    assert "other.pth" in refused.err


def test_an_existing_folder_is_left_alone(mnsa: "Callable[..., Finished]", checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    refused = mnsa("import-checkpoint", checkpoint, "--out", tmp_path / "run")
    assert refused.code == 2
    assert not list((tmp_path / "run").iterdir())
