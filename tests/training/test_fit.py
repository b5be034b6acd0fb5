"""Training from start to end: the effect of each setting, and a resumed run equals an uninterrupted one."""

import csv
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mnsa.config import Config
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.errors import ConfigError
from mnsa.model.network import build_network
from mnsa.run_folder import RunFolder
from mnsa.structures import Batch
from mnsa.training.checkpoint import RECORD, read_checkpoint
from mnsa.training.fit import TrainingInterruptedError, resume, train
from mnsa.training.module import StageModule

FIRST = {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "attention", "class_head")}
SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder")}


@pytest.fixture
def trained(dataset: Path, make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., RunFolder]:
    """Train into a new folder of this name."""
    return lambda name, *stages, **sections: train(make_config(*stages, **sections), dataset, tmp_path / name)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Press Ctrl-C in the second step of the second epoch of a stage, once."""
    handler = signal.getsignal(signal.SIGINT)
    step = StageModule.training_step

    def press(stage: str) -> None:
        def interrupted_step(self: Any, batch: Batch, index: Any) -> torch.Tensor:
            if (self.stage.name, self.current_epoch, index) == (stage, 1, 1):
                monkeypatch.setattr(StageModule, "training_step", step)
                raise KeyboardInterrupt
            return step(self, batch, index)

        monkeypatch.setattr(StageModule, "training_step", interrupted_step)

    yield press
    signal.signal(signal.SIGINT, handler)  # Lightning ignores Ctrl-C while it shuts down


def rows_of(run: RunFolder) -> list[dict[Any, Any]]:
    return list(csv.DictReader(run.metrics_file.read_text().splitlines()))


def weights_of(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.model_folder / "model.safetensors")


def checkpoint(run: RunFolder, stage: str, name: str) -> Any:
    return torch.load(run.checkpoint_folder(stage) / f"{name}.ckpt", weights_only=True)


def network_state(tree: Any) -> dict[Any, Any]:
    return {name.removeprefix("network."): value for name, value in tree.items() if name.startswith("network.")}


def equal(some: Any, others: Any) -> Any:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def test_a_joint_run_writes_a_row_per_epoch_with_every_loss_and_score(finished: RunFolder) -> None:
    rows = rows_of(finished)
    assert [(row["stage"], row["epoch"]) for row in rows] == [("joint", "1"), ("joint", "2")]
    losses = ["loss", "loss_classification", "loss_dice", "loss_segmentation"]
    assert list(rows[0]) == ["stage", "epoch", *losses, "val_accuracy", "val_iou", "val_score"]
    for row in rows:
        assert float(row["loss"]) == pytest.approx(sum(float(row[name]) for name in losses[1:]), rel=1e-3)
        assert 0 <= float(row["val_score"]) <= 1


def test_the_second_stage_starts_from_the_best_weights_of_the_first_and_keeps_frozen_parts(
    trained: Callable[..., RunFolder],
) -> None:
    run = trained("run", FIRST, SECOND)
    assert [row["stage"] for row in rows_of(run)] == ["first", "first", "second", "second"]
    before, after = (network_state(checkpoint(run, name, "best")["state_dict"]) for name in ("first", "second"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"enhancer", "decoder", "mask_head"}
    assert equal(weights_of(run), after)


def test_the_saved_network_is_that_of_the_best_validation_epoch(
    trained: Callable[..., RunFolder], script_scores: Callable[..., None]
) -> None:
    script_scores(0.2, 0.9, 0.1)
    run = trained("run", {"epochs": 3})
    best, last = (checkpoint(run, "joint", name) for name in ("best", "last"))
    assert (best["epoch"], last["epoch"]) == (1, 2)
    assert equal(weights_of(run), network_state(best["state_dict"]))
    assert not equal(weights_of(run), network_state(last["state_dict"]))


def test_patience_stops_a_stage_that_no_longer_improves(
    trained: Callable[..., RunFolder], script_scores: Callable[..., None]
) -> None:
    script_scores(0.3, 0.5, 0.4, 0.5, 0.9)
    run = trained("run", {"epochs": 9, "patience": 2})
    assert [row["val_score"] for row in rows_of(run)] == ["0.3", "0.5", "0.4", "0.5"]


def test_the_moving_average_of_the_weights_is_validated_and_saved(trained: Callable[..., RunFolder]) -> None:
    run = trained("run", train={"ema_decay": 0.9})
    best = checkpoint(run, "joint", "best")
    averaged, current = (network_state(best[key]) for key in ("state_dict", "current_model_state"))
    assert equal(weights_of(run), averaged)
    assert not equal(averaged, current)


def test_the_seed_determines_the_network(trained: Callable[..., RunFolder], finished: RunFolder) -> None:
    again, other = trained("again"), trained("other", train={"seed": 2})
    assert again.metrics_file.read_text() == finished.metrics_file.read_text()
    assert equal(weights_of(again), weights_of(finished))
    assert not equal(weights_of(other), weights_of(finished))


def test_the_number_of_workers_does_not_change_the_network(
    trained: Callable[..., RunFolder], finished: RunFolder
) -> None:
    assert equal(weights_of(trained("run", train={"workers": 1})), weights_of(finished))


def test_losses_for_thin_structures_train_and_are_written_per_epoch(trained: Callable[..., RunFolder]) -> None:
    terms = ("cldice", "skeleton_recall", "centerline")
    rows = rows_of(trained("thin", {"epochs": 1}, loss=dict.fromkeys(terms, 0.5), augment={"rotation_deg": 30}))
    assert all(0 < float(row[f"loss_{term}"]) < 2 for row in rows for term in terms)
    assert float(rows[0]["loss"]) > 0


def test_the_config_switches_recomputation_off(
    trained: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnsa.model.enhancer.checkpoint", None)  # calling it would raise TypeError
    assert len(rows_of(trained("run", {"epochs": 1}, train={"recompute": False}))) == 1


def test_bfloat16_trains(trained: Callable[..., RunFolder], finished: RunFolder) -> None:
    run = trained("run", train={"precision": "bfloat16"})
    losses = [float(row["loss"]) for row in rows_of(run)]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[0] == pytest.approx(float(rows_of(finished)[0]["loss"]), rel=0.05)  # bfloat16 has 8 bits of mantissa
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights_of(run).values())


def test_a_gradient_clipped_to_almost_zero_changes_no_weight(
    trained: Callable[..., RunFolder], make_config: Callable[..., Config]
) -> None:
    stage = {"optimizer": "sgd", "weight_decay": 0.0, "epochs": 1}
    config = make_config()
    torch.manual_seed(config.train.seed)
    start = dict(build_network(config.model, 3, 1).named_parameters())
    clipped, free = (
        weights_of(trained("clipped", stage, train={"gradient_clip": 1e-9})),
        weights_of(trained("free", stage)),
    )
    changes = {name: (free[name] - start[name]).abs().max().item() for name in start}
    assert max((clipped[name] - start[name]).abs().max().item() for name in start) < 1e-6
    assert max(changes.values()) > 1e-3


def test_balanced_class_weights_change_the_loss_of_a_rare_class(
    own_dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    manifest = read_manifest(own_dataset)
    rare = [row for row in manifest.split("train").rows if row.label == manifest.classes[0]][1:]
    write_manifest(replace(manifest, rows=tuple(row for row in manifest.rows if row not in rare)), tmp_path / "rare")
    plain, balanced = (
        rows_of(train(make_config(loss={"class_weights": kind}), tmp_path / "rare", tmp_path / kind))
        for kind in ("none", "balanced")
    )
    assert plain[0]["loss_classification"] != balanced[0]["loss_classification"]
    assert math.isfinite(float(balanced[-1]["loss"]))


def states_of(run: RunFolder, stage: str) -> dict[str, Any]:
    """What the next epoch would start from: weights and their average, optimizer, rates, callbacks, counts of steps."""
    checkpoint = read_checkpoint(run.checkpoint_folder(stage) / "last.ckpt")
    return {name: value for name, value in checkpoint.items() if name != RECORD}


def same(one: Any, other: Any) -> bool:
    """Compare nested states bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def require_same(run: RunFolder, other: RunFolder, *stages: str) -> None:
    assert run.metrics_file.read_text() == other.metrics_file.read_text()
    assert equal(weights_of(run), weights_of(other))
    for stage in stages:
        assert same(states_of(run, stage), states_of(other, stage))
        assert not list(run.checkpoint_folder(stage).glob("step.*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "loss", "workers"),
    [("first", {}, 0), ("first", {}, 2), ("second", {"cldice": 0.5, "skeleton_recall": 0.5}, 0)],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    trained: Callable[..., RunFolder],
    interrupt: Callable[..., None],
    finished: RunFolder,
    stage: str,
    loss: Any,
    workers: int,
) -> None:
    stages = [{**FIRST, "epochs": 3}, {**SECOND, "epochs": 3}]
    teacher = {"distill": str(finished.path)} if loss else {}
    options = {
        "train": {"ema_decay": 0.9, "workers": workers, **teacher},
        "loss": loss,
        "augment": {"random_erasing": 0.5, "vertical_flip": 0.5},
    }
    whole = trained("whole", *stages, **options)
    options["train"]["checkpoint_minutes"] = 1e-9  # after every step
    interrupt(stage)
    with pytest.raises(TrainingInterruptedError, match=f"epoch 2 of stage '{stage}'") as interruption:
        trained("parts", *stages, **options)
    parts = whole.path.with_name("parts")
    assert f"saved up to batch 1 of epoch 2. Continue with: mnsa train --resume {parts}" in str(interruption.value)
    require_same(resume(parts), whole, "first", "second")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_saves_the_steps_before_it(
    trained: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A run that is stopped again and again, in steps and in validation, equals an uninterrupted one."""
    stage = {"epochs": 2, "batch_parts": 2, "warmup_epochs": 0.5}
    train = {"ema_decay": 0.9, "sampler": "balanced", "on_nan": "skip", "checkpoint_minutes": 0}
    options = {"augment": {"cutmix": 1.0, "vertical_flip": 0.5}, "data": {"resize_mode": "crop", "crops_per_epoch": 24}}
    whole = trained("whole", stage, train=train, **options)
    stops = [("training_step", 0, 0), ("training_step", 0, 5), ("validation_step", 0, 0), ("training_step", 1, 3)]
    stops.append(("validation_step", 1, 2))
    for name in ("training_step", "validation_step"):
        step = getattr(StageModule, name)

        def stopped(self: Any, batch: Batch, index: int, *, name: str = name, step: Any = step) -> Any:
            if (name, self.current_epoch, index) in stops:
                stops.remove((name, self.current_epoch, index))
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, batch, index)

        monkeypatch.setattr(StageModule, name, stopped)
    with pytest.raises(TrainingInterruptedError, match="up to batch 1 of epoch 1"):
        trained("parts", stage, train={**train, "workers": workers}, **options)
    for place in ("batch 6 of epoch 1", "batch 6 of epoch 1", "batch 4 of epoch 2", "the end of epoch 2"):
        with pytest.raises(TrainingInterruptedError, match=f"saved up to {place}"):
            resume(whole.path.with_name("parts"))
    require_same(resume(whole.path.with_name("parts")), whole, "joint")
    assert not stops


def test_resuming_a_finished_run_changes_nothing(own_run: RunFolder, finished: RunFolder) -> None:
    resume(own_run.path)
    assert own_run.metrics_file.read_text() == finished.metrics_file.read_text()
    assert equal(weights_of(own_run), weights_of(finished))


@pytest.mark.slow
def test_more_epochs_continue_a_finished_run_as_if_it_had_been_planned_so(
    trained: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, rates, step = {"schedule": "constant"}, list[float](), StageModule.training_step

    def remembered(self: Any, batch: Batch, index: int) -> torch.Tensor:
        rates.append(self.optimizers().param_groups[0]["lr"])
        return step(self, batch, index)

    longer = trained("longer", {**stage, "epochs": 3}, train={"ema_decay": 0.9})
    run = trained("run", {**stage, "epochs": 2}, train={"ema_decay": 0.9})
    resume(run.path, epochs=3)
    assert run.config_file.read_text() == longer.config_file.read_text()
    assert run.metrics_file.read_text() == longer.metrics_file.read_text()
    assert equal(weights_of(run), weights_of(longer))
    with pytest.raises(ConfigError, match=r"--epochs 3 .* has 3\. Give more"):
        resume(run.path, epochs=3)

    monkeypatch.setattr(StageModule, "training_step", remembered)
    trained("cosine", {"epochs": 3})
    run = trained("short", {"epochs": 2})
    whole, short = rates[:9], rates[9:]
    resume(run.path, epochs=3)
    assert short[3] < whole[3]  # a cosine over two epochs falls faster
    assert rates[15:] == whole[6:]


@pytest.mark.parametrize("progress", [True, False])
def test_the_progress_bar_can_be_switched_on_and_off(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, capfd: pytest.CaptureFixture[str], progress: bool
) -> None:
    train(make_config({"epochs": 1}), dataset, tmp_path / "run", progress=progress)
    printed = "".join(capfd.readouterr())
    assert ("Epoch 1/1" in printed) == progress
    if not progress:
        assert printed == ""


def test_the_cldice_selects_where_it_is_asked_to(trained: Callable[..., RunFolder]) -> None:
    rows = rows_of(trained("run", FIRST, SECOND, train={"select_by": "cldice"}))
    first, second = ([row for row in rows if row["stage"] == stage] for stage in ("first", "second"))
    assert [row["val_score"] for row in first] == [row["val_accuracy"] for row in first]
    assert [row["val_score"] for row in second] == [row["val_cldice"] for row in second]
    assert not any(row["val_cldice"] for row in first)
