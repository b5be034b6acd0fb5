"""metrics.csv has one row per epoch, also after an interruption; other loggers write only if the config names them."""

import csv
import logging
import os
import re
import struct
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.entities import Run

from mnsa.config import Config
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, RunError, install_command
from mnsa.run_folder import RunFolder
from mnsa.training import loggers
from mnsa.training.fit import train
from mnsa.training.loggers import CSVMetricsLogger, EpochMeans, open_loggers
from mnsa.training.preflight import require_trainable
from narrowing import some


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Any]:
    """End an epoch (counted from 0) of a stage, and return the rows of metrics.csv."""
    file = tmp_path / "metrics.csv"

    def end(stage: str, epoch: int, *, first_process: Any = True, **scores: float) -> list[dict[Any, Any]]:
        metrics = {name: torch.tensor(value) for name, value in scores.items()}
        trainer = SimpleNamespace(
            is_global_zero=first_process, current_epoch=epoch, max_epochs=9, callback_metrics=metrics
        )
        logger: Any = CSVMetricsLogger(file, stage)
        logger.on_train_epoch_end(trainer, None)
        return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []

    return end


def test_each_epoch_is_a_row_counted_from_one(record: Any) -> None:
    record("joint", 0, loss=2.0, val_score=0.25)
    rows = record("joint", 1, loss=1.0, val_score=0.5)
    assert [(row["stage"], row["epoch"], row["loss"], row["val_score"]) for row in rows] == [
        ("joint", "1", "2", "0.25"),
        ("joint", "2", "1", "0.5"),
    ]


def test_a_repeated_epoch_replaces_its_row_and_the_later_rows(record: Any) -> None:
    for epoch in range(3):
        record("joint", epoch, loss=float(epoch))
    rows = record("joint", 1, loss=7.0)
    assert [(row["epoch"], row["loss"]) for row in rows] == [("1", "0"), ("2", "7")]


def test_rows_of_all_stages_have_the_columns_of_all_stages(record: Any) -> None:
    record("first", 0, loss=1.0, val_accuracy=0.5)
    first, second = record("second", 0, loss=2.0, val_iou=0.25)
    assert list(first) == ["stage", "epoch", "loss", "val_accuracy", "val_iou"]
    assert (first["val_iou"], second["val_accuracy"], second["val_iou"]) == ("", "", "0.25")


def test_only_the_first_process_writes(record: Any) -> None:
    assert record("joint", 0, first_process=False, loss=1.0) == []


def test_an_epoch_says_how_much_time_is_left(
    record: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 400.0])
    monkeypatch.setattr("mnsa.training.loggers.time", SimpleNamespace(monotonic=lambda: next(clock)))
    caplog.set_level(logging.INFO, logger="mnsa")
    record("joint", 2, loss=0.5)  # the third epoch of nine, after 300 s
    assert caplog.messages == ["joint 3/9  loss 0.5  0:10:00 left"]


def test_each_epoch_is_one_log_message_and_nothing_is_printed(
    record: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="mnsa")
    record("joint", 2, loss=0.5, loss_dice=0.25, val_score=0.125)
    assert caplog.messages == ["joint 3/9  loss 0.5  val_score 0.125"]
    assert capsys.readouterr().out == ""


def test_a_stage_name_with_a_comma_is_quoted(record: Any) -> None:
    record("head, then body", 0, loss=1.0)
    assert [row["stage"] for row in record("head, then body", 1, loss=1.0)] == ["head, then body"] * 2


NAMES = ("tensorboard", "mlflow", "wandb")

SQLALCHEMY = "ignore:.*noload:DeprecationWarning"  # MLflow 3.17 uses a deprecated option of SQLAlchemy 2.1

needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb isn't installed: pip install 'mnsa[wandb]'")


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)


def losses_in_table(run: RunFolder) -> list[float]:
    return [float(row["loss"]) for row in csv.DictReader(run.metrics_file.read_text().splitlines())]


def mlflow_runs(run: RunFolder) -> list[tuple[Run, list[float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.logs_folder / 'mlflow.db'}")
    experiment = some(client.get_experiment_by_name("mnsa")).experiment_id
    return [
        (found, [metric.value for metric in client.get_metric_history(found.info.run_id, "loss")])
        for found in client.search_runs([experiment], order_by=["attributes.start_time"])
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_logger_that_is_not_installed_is_an_error(
    dataset: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda module: None if module == name else find_spec(module))
    with pytest.raises(ConfigError, match=rf"names {name}.*{re.escape(install_command(name))}"):
        require_trainable(make_config(train={"loggers": (name,)}), read_manifest(dataset))


def test_without_loggers_in_the_config_there_is_no_log_folder(finished: RunFolder) -> None:
    assert not finished.logs_folder.exists()


def test_tensorboard_has_every_epoch(dataset: Path, make_config: Callable[..., Config], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(make_config(train={"loggers": ("tensorboard",)}), dataset, tmp_path / "run")
    events = EventAccumulator(str(run.logs_folder / "tensorboard" / "joint")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses_in_table(run), rel=1e-4)
    assert {"val_iou", "val_accuracy"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.filterwarnings(SQLALCHEMY)
def test_mlflow_has_the_config_and_every_epoch_of_every_stage(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    stages = [{"name": "first", "epochs": 2, "lr": 0.02}, {"name": "second", "epochs": 1}]
    run = train(make_config(*stages, train={"loggers": ("mlflow",)}), dataset, tmp_path / "run")
    (first, losses), (second, more) = mlflow_runs(run)
    assert [first.info.run_name, second.info.run_name] == ["run/first", "run/second"]
    assert losses + more == pytest.approx(losses_in_table(run), rel=1e-4)
    assert (first.data.params["stages/first/lr"], first.data.params["train/seed"]) == ("0.02", "1")
    assert first.info.status == second.info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.filterwarnings(SQLALCHEMY)
def test_a_resumed_stage_continues_its_mlflow_run(make_config: Callable[..., Config], tmp_path: Path) -> None:
    run, config = RunFolder(tmp_path), make_config(train={"loggers": ("mlflow",)})
    for step, (loss, ending) in enumerate([(3.0, "failed"), (2.0, "success")]):
        with open_loggers(run, config, "joint", first_process=True) as (logger,):
            logger.log_metrics({"loss": loss}, step)
            logger.finalize(ending)
    ((found, losses),) = mlflow_runs(run)
    assert (found.info.status, losses) == ("FINISHED", [3.0, 2.0])


@pytest.mark.filterwarnings(SQLALCHEMY)
def test_a_server_that_cannot_be_reached_is_an_error(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at.all")
    run = RunFolder(tmp_path)
    config = make_config(train={"loggers": ("mlflow",)})
    with (
        pytest.raises(RunError, match=r"MLFLOW_TRACKING_URI.*mnsa train --resume"),
        open_loggers(run, config, "joint", first_process=True),
    ):
        pass


def wandb_records(file: Path) -> Iterator[Any]:
    """Read the records of a .wandb file: LevelDB's log format, blocks of 32 KiB, pieces with 7 bytes of header."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = file.read_bytes(), 7, b""
    while at < len(data):
        if 2**15 - at % 2**15 < 7:  # too short for a header: padding
            at += 2**15 - at % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # a complete record, or its last piece
            yield Record.FromString(record)
            record = b""


@pytest.mark.slow
@needs_wandb
def test_wandb_stays_offline_and_in_the_run_folder(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(make_config(train={"loggers": ("wandb",)}), dataset, tmp_path / "run")
    (file,) = (run.logs_folder / "wandb").glob("offline-run-*/*.wandb")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    items = [item for record in wandb_records(file) for item in record.history.item]
    losses = [float(item.value_json) for item in items if "loss" in {item.key, *item.nested_key}]
    assert losses == pytest.approx(losses_in_table(run), rel=1e-4)


def test_the_means_of_an_epoch_are_over_images_and_go_on_after_a_resume() -> None:
    values, counts = torch.tensor([0.3, 0.7, 0.25, 5.0]), (4, 4, 2, 1)
    means, resumed = EpochMeans(), EpochMeans()
    for number, (value, count) in enumerate(zip(values, counts, strict=True)):
        means.add("loss", value, count)
        means.count("skipped_steps", number == 2)
        if number == 1:
            resumed.load(means.state())
        elif number > 1:
            resumed.add("loss", value, count)
            resumed.count("skipped_steps", number == 2)
    expected = means.pop()
    assert float(expected["loss"]) == pytest.approx(np.average(values.numpy(), weights=counts))
    assert expected["skipped_steps"] == 1
    assert resumed.pop() == expected
    assert means.pop() == {}
