"""A warm start is the linear probe of what the class head reads, and stays the result when no epoch is better."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnsa.config import Config
from mnsa.data.dataset import read_sample
from mnsa.data.manifest import read_manifest
from mnsa.data.transforms import eval_transform
from mnsa.errors import RunError
from mnsa.model.network import build_network
from mnsa.model_folder import load_network
from mnsa.training.checkpoint import RECORD
from mnsa.training.fit import TrainingInterruptedError, resume, train
from mnsa.training.module import StageModule
from mnsa.training.warm_start import choose_checkpoint, init_class_head
from narrowing import instance_of, some

STAGE: dict[str, Any] = {"tasks": ("classification",), "trainable": ("attention", "class_head"), "lr": 1e-9}
PROBE = {"head_init": "linear_probe"}


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_the_network_before_training_predicts_what_the_probe_predicts(
    dataset: Path, make_config: Callable[..., Config], resize_mode: str
) -> None:
    config, manifest = make_config(data={"size": (32, 64), "resize_mode": resize_mode}), read_manifest(dataset)
    torch.manual_seed(1)
    network = build_network(config.model, 3, 1)
    backbone = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    seen: list[torch.Tensor] = []
    probe = init_class_head(network, manifest, config.data)
    classifier = instance_of(nn.Linear, some(network.class_head).classifier)
    transform = eval_transform(config.data, network.backbone.mean, network.backbone.std)
    rows = manifest.split("train").rows
    with classifier.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0])), torch.no_grad():
        logits = [some(network(transform(read_sample(manifest, row).image)[0][None]).class_logits) for row in rows]
    expected = probe(torch.cat(seen))
    torch.testing.assert_close(torch.cat(logits).double(), expected, atol=1e-3, rtol=1e-3)
    assert torch.cat(logits).argmax(1).tolist() == expected.argmax(1).tolist()
    assert expected.argmax(1).tolist() != [0] * len(rows)
    assert all(torch.equal(value, backbone[name]) for name, value in network.backbone.state_dict().items())


def test_the_start_is_kept_when_no_epoch_is_better(
    dataset: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    script_scores: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="mnsa")
    results = {}
    for name, scores in (("kept", (0.5, 0.4, 0.5)), ("beaten", (0.5, 0.4, 0.6))):
        script_scores(*scores)
        run = train(make_config({**STAGE, "lr": 0.1}, train=PROBE), dataset, tmp_path / name)
        initial = torch.load(run.checkpoint_folder("joint") / "initial.ckpt", weights_only=True)["state_dict"]
        weight = some(load_network(run.path)[0].class_head).classifier.weight
        results[name] = bool(
            torch.equal(instance_of(torch.Tensor, weight), initial["network.class_head.classifier.weight"])
        )
    assert results == {"kept": True, "beaten": False}
    assert "joint: no epoch is better than the linear probe" in caplog.text


def test_an_interrupted_run_keeps_its_start(
    dataset: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    script_scores: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import signal

    script_scores(0.9, 0.5, 0.6)
    step, handler = StageModule.training_step, signal.getsignal(signal.SIGINT)

    def interrupted(self: Any, batch: Any, index: Any) -> torch.Tensor:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(StageModule, "training_step", interrupted)
    with pytest.raises(TrainingInterruptedError):
        train(make_config({**STAGE, "lr": 0.1}, train=PROBE), dataset, tmp_path / "run")
    signal.signal(signal.SIGINT, handler)
    monkeypatch.setattr(StageModule, "training_step", step)
    start = tmp_path / "run" / "checkpoints" / "joint" / "initial.ckpt"
    before = start.read_bytes()
    run = resume(tmp_path / "run")
    assert start.read_bytes() == before
    initial = torch.load(start, weights_only=True)["state_dict"]
    weights = load_network(run.path)[0].state_dict()
    assert all(torch.equal(value, initial[f"network.{name}"]) for name, value in weights.items())


def test_a_damaged_start_is_refused_before_another_network_is_chosen(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = train(make_config({**STAGE, "epochs": 1}, train=PROBE), dataset, tmp_path / "run")
    start = run.checkpoint_folder("joint") / "initial.ckpt"
    start.write_bytes(start.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"initial\.ckpt is damaged: .*remove it to keep the best epoch"):
        resume(run.path)


def test_a_run_without_it_starts_with_a_random_head(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = train(make_config({**STAGE, "epochs": 1}), dataset, tmp_path / "run")
    assert not (run.checkpoint_folder("joint") / "initial.ckpt").exists()


@pytest.mark.parametrize(("epoch", "start", "kept"), [(0.5, 0.5, "start"), (0.5, 0.4, "epoch"), (0.5, 0.6, "start")])
def test_of_equal_scores_the_start_is_chosen(epoch: float, start: float, kept: str) -> None:
    best, initial = {"name": "epoch", RECORD: {"best_score": epoch}}, {"name": "start", "val_score": start}
    assert choose_checkpoint(best, initial)["name"] == kept
