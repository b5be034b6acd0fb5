"""A reader follows one epoch of training, or one prediction, through few files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnsa.config import Config, dump_config, parse_config

pytestmark = pytest.mark.slow


MAX_FILES_OF_AN_EPOCH = 25
MAX_FILES_OF_A_PREDICTION = 12
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def files(
    make_config: Callable[..., Config], dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """The files of an epoch and of a prediction: of the `small` network, both tasks, without worker processes."""
    folder = tmp_path_factory.mktemp("small")
    tree = make_config({"epochs": 1}).model_dump(mode="json")
    model = {"preset": "small", "pretrained": "none"}
    config = parse_config({**tree, "model": model, "train": {**tree["train"], "workers": 0}}, source="test")
    (folder / "small.toml").write_text(dump_config(config), encoding="utf-8")
    script = Path(__file__).with_name("called_files.py")
    command = [sys.executable, *map(str, (script, folder / "small.toml", dataset, folder / "run"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_an_epoch_of_training_calls_few_files(files: dict[str, list[str]]) -> None:
    epoch = files["epoch"]
    assert {"training/module.py", "training/losses.py", "model/decoder.py", "data/dataset.py"} <= set(epoch)
    assert len(epoch) <= MAX_FILES_OF_AN_EPOCH, epoch


def test_one_prediction_calls_few_files(files: dict[str, list[str]]) -> None:
    prediction = files["prediction"]
    assert {"inference/predictor.py", "model/decoder.py", "model/enhancer.py"} <= set(prediction)
    assert len(prediction) <= MAX_FILES_OF_A_PREDICTION, prediction
