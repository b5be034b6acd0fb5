"""metrics.csv holds each epoch once, whatever was interrupted."""

import csv
from types import SimpleNamespace

import pytest
import torch

from mnsa.training.epoch_table import EpochTable


@pytest.fixture
def record(tmp_path):
    """Let a stage end an epoch (counted from 0); the table's rows afterwards."""
    file = tmp_path / "metrics.csv"

    def end(stage, epoch, *, first_process=True, **scores):
        metrics = {name: torch.tensor(value) for name, value in scores.items()}
        trainer = SimpleNamespace(
            is_global_zero=first_process, current_epoch=epoch, max_epochs=9, callback_metrics=metrics
        )
        EpochTable(file, stage).on_train_epoch_end(trainer, None)
        return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []

    return end


def test_each_epoch_is_a_row_counted_from_one(record):
    record("joint", 0, loss=2.0, val_score=0.25)
    rows = record("joint", 1, loss=1.0, val_score=0.5)
    assert [(row["stage"], row["epoch"], row["loss"], row["val_score"]) for row in rows] == [
        ("joint", "1", "2", "0.25"),
        ("joint", "2", "1", "0.5"),
    ]


def test_an_epoch_that_is_run_again_replaces_its_row_and_those_after_it(record):
    for epoch in range(3):
        record("joint", epoch, loss=float(epoch))
    rows = record("joint", 1, loss=7.0)
    assert [(row["epoch"], row["loss"]) for row in rows] == [("1", "0"), ("2", "7")]


def test_stages_stand_below_each_other_with_all_columns(record):
    record("first", 0, loss=1.0, val_accuracy=0.5)
    first, second = record("second", 0, loss=2.0, val_iou=0.25)
    assert list(first) == ["stage", "epoch", "loss", "val_accuracy", "val_iou"]
    assert (first["val_iou"], second["val_accuracy"], second["val_iou"]) == ("", "", "0.25")


def test_only_the_first_process_writes(record):
    assert record("joint", 0, first_process=False, loss=1.0) == []


def test_each_epoch_is_told_in_one_line(record, capsys):
    record("joint", 2, loss=0.5, loss_dice=0.25, val_score=0.125)
    assert capsys.readouterr().out == "joint 3/9  loss 0.5  val_score 0.125\n"
