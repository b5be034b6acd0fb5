"""`mnsa plan`, `mnsa train` without a config, and configs by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.cli.plan import parse_duration
from mnsa.config import load_config, named_configs
from mnsa.errors import ConfigError
from mnsa.run_folder import RunFolder, read_run_config
from mnsa.workflows import plan as plan_module
from mnsa.workflows.training_cost import TrainingCost

TINY = ("--set", "model.backbone=test_efficientnet", "--set", "model.pretrained=none", "--set", "data.size=[64, 64]")


@pytest.fixture(autouse=True)
def fast_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "measure_training", lambda *_: TrainingCost(0.001, 1e-7))


def test_plan_shows_what_is_chosen_and_writes_a_config(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    result = mnsa("plan", dataset, "--budget", "5m", "--out", tmp_path / "plan.toml", "--set", "train.seed=7")

    assert result.code == 0
    assert result.out.startswith(f"Planning for {dataset}: ")
    assert "classification and segmentation" in result.out
    assert "Training takes about" in result.out
    assert load_config(tmp_path / "plan.toml").train.seed == 7


@pytest.mark.slow
def test_train_without_a_config_plans_and_trains(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    result = mnsa("train", "--data", dataset, "--out", tmp_path / "run", *TINY, "--set", "stages.joint.epochs=1")

    assert result.code == 0, result.err
    assert "Plan for" in result.out
    assert read_run_config(RunFolder(tmp_path / "run")).stages[0].epochs == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small", "--budget", "5m"), "--budget is for training without a config"),
        (("paper/classification", "--tasks", "both"), "--tasks asks for segmentation, which no stage of the config"),
        (("--budget", "soon"), "--budget soon is no duration"),
        (("--devices", 2), "Several processes need a config"),
        (("huge",), "There is no config huge"),
        (("--set", "train.sede=1"), "did you mean 'seed'"),
    ],
)
def test_what_train_refuses(
    mnsa: Callable[..., Any], dataset: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = mnsa("train", *arguments, "--data", dataset, "--out", tmp_path / "run")

    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_refused_before_the_plan(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()

    result = mnsa("train", "--data", dataset, "--out", tmp_path / "run")

    assert "exists already" in result.err
    assert "Plan" not in result.out


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "0m", "1e9h", "five minutes"])
def test_texts_that_are_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="Examples: 20m"):
        parse_duration(text)


def test_named_configs_are_the_shipped_ones() -> None:
    shipped = Path(__file__).parents[2] / "configs"

    assert set(named_configs()) == {
        path.relative_to(shipped).with_suffix("").as_posix() for path in shipped.rglob("*.toml")
    }
    assert load_config("paper/joint") == load_config(shipped / "paper/joint.toml")
