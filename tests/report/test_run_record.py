"""A run as its folder tells it."""

import csv
from dataclasses import replace

import pytest

from mnsa.errors import DataError, MnsaError, RunError
from mnsa.metrics.evaluation_files import read_evaluations, save_evaluation
from mnsa.report.run_record import read_run_record
from mnsa.run_folder import RunFolder


def test_splits_come_test_first_and_name_what_makes_them(own_reported: RunFolder) -> None:
    entry = read_evaluations(own_reported)["test"]
    for key in ("test/trees", "val"):
        save_evaluation(own_reported, key, entry)
    run = read_run_record(own_reported)
    assert [split.key for split in run.evaluated] == ["test", "test/trees", "val", "train"]
    assert [split.head for split in run.evaluated] == ["network", "trees", "network", "network"]
    assert run.evaluated[1].command(run) == f"mnsa evaluate {own_reported.path} --head trees"
    assert run.evaluated[3].command(run, "--traits") == f"mnsa evaluate {own_reported.path} --split train --traits"
    measured = replace(
        run.evaluated[2], key="val/flips+rot90/mask threshold 0.4/no repair", rows=[{"true_area_px2": "3"}]
    )
    assert measured.command(run) == (
        f"mnsa evaluate {own_reported.path} --split val --tta flips --tta rot90 --mask-threshold 0.4 --no-repair "
        "--traits"
    )
    assert [len(split.rows) for split in run.evaluated] == [3, 0, 0, 12]


def test_a_path_with_blanks_is_quoted_in_commands(own_run: RunFolder) -> None:
    run = RunFolder(own_run.path.rename(own_run.path.parent / "my run"))
    assert read_run_record(run).command("evaluate") == f"mnsa evaluate '{run.path}'"


def test_the_epochs_are_those_of_the_table(finished: RunFolder) -> None:
    with finished.metrics_file.open(newline="") as file:
        assert read_run_record(finished).epochs == list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["provenance.json", "evaluation.json", "config.toml", "model/config.json"])
def test_a_damaged_file_is_named(own_reported: RunFolder, name: str) -> None:
    (own_reported.path / name).write_text("{")
    with pytest.raises(MnsaError, match=name):
        read_run_record(own_reported)


def test_a_damaged_table_of_images_is_named(own_reported: RunFolder) -> None:
    (own_reported.predictions_folder / "test" / "images.csv").write_text("")
    with pytest.raises(DataError, match=r"images\.csv is empty"):
        read_run_record(own_reported)


def test_epochs_that_are_no_text_are_named(own_reported: RunFolder) -> None:
    own_reported.metrics_file.write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"metrics\.csv can't be read"):
        read_run_record(own_reported)
