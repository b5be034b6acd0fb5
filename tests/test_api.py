"""The functions of `import mnsa` do what the commands of the same name do."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mnsa as package
from mnsa import Config, RunFolder
from mnsa.metrics.evaluation_files import read_evaluations


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_synthetic_leaves_are_a_data_set(tmp_path: Path) -> None:
    manifest = package.synthesize(str(tmp_path / "leaves"), cultivars=2, per_cultivar=5, size=64)
    assert len(manifest.rows) == 10
    assert package.read_manifest(str(tmp_path / "leaves")).classes == manifest.classes


def test_class_folders_become_a_data_set(tmp_path: Path) -> None:
    for name in ("ash", "oak"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(5):
            Image.new("RGB", (32, 32), (n, 9, 9)).save(tmp_path / "photos" / name / f"{n}.png")
    manifest = package.import_folders(str(tmp_path / "photos"), tmp_path / "leaves", val_fraction=0.2)
    assert manifest.classes == ("ash", "oak")
    assert len(manifest.split("val").rows) == 2
    assert package.read_manifest(tmp_path / "leaves").classes == ("ash", "oak")


def test_training_takes_a_config_or_a_file_with_overrides(
    dataset: Path, config_file: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = package.train(str(config_file), str(dataset), tmp_path / "run", overrides=["train.seed=5"])
    assert package.load_config(run.config_file).train.seed == 5
    with pytest.raises(package.RunError, match="run"):
        package.train(make_config(), dataset, tmp_path / "run")


def test_evaluation_returns_the_scores_that_it_writes(own_run: RunFolder) -> None:
    evaluation = package.evaluate(own_run, split="val")
    assert read_evaluations(own_run) == {"val": evaluation}


def test_a_prediction_folder_is_the_one_of_the_command(
    finished: RunFolder, dataset: Path, tmp_path: Path, mnsa: Callable[..., Any]
) -> None:
    images = sorted((dataset / "images").iterdir())[:3]
    summary = package.predict_files(str(finished.path), images, tmp_path / "api", traits=True, px_per_mm=2.0)
    assert (summary.done, summary.failed) == (3, 0)
    command = ["predict", finished.path, *images, "--traits", "--px-per-mm", "2", "--out", tmp_path / "command"]
    mnsa(*command)
    assert rows(summary.table) == rows(tmp_path / "command" / "predictions.csv")
    again = package.predict_files(package.load(finished.path), images, tmp_path / "api", traits=True, px_per_mm=2.0)
    assert again.new == 0  # complete already


def test_one_image_may_be_given_by_itself(finished: RunFolder, dataset: Path, tmp_path: Path) -> None:
    image = min((dataset / "images").iterdir())
    assert package.predict_files(finished, str(image), tmp_path / "out").done == 1


def test_other_options_do_not_continue_a_folder(finished: RunFolder, dataset: Path, tmp_path: Path) -> None:
    images = sorted((dataset / "images").iterdir())[:2]
    package.predict_files(finished, images, tmp_path / "out")
    with pytest.raises(package.RunError):
        package.predict_files(finished, images, tmp_path / "out", traits=True)
