"""A reader follows one epoch of training, or one prediction, through few files."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import lightning
import pytest
from lightning.pytorch.callbacks import Callback

import mnsa
from mnsa.config import Config, parse_config
from mnsa.data.manifest import read_manifest
from mnsa.run_folder import RunFolder
from mnsa.training.fit import train_validated

pytestmark = pytest.mark.slow


MAX_FILES_OF_AN_EPOCH = 25
MAX_FILES_OF_A_PREDICTION = 12

PACKAGE = Path(mnsa.__file__).parent


class CalledFiles:
    """The files of the package whose functions were called."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                self.names.add(path.relative_to(PACKAGE).as_posix())

    def start(self) -> None:
        threading.setprofile(self)
        sys.setprofile(self)

    @staticmethod
    def stop() -> None:
        sys.setprofile(None)
        threading.setprofile(None)


@contextmanager
def called_files() -> Iterator[CalledFiles]:
    called = CalledFiles()
    called.start()
    try:
        yield called
    finally:
        called.stop()


class EpochProfiler(Callback):
    """Record the files of one epoch: after the setup, until the end of training."""

    def __init__(self) -> None:
        self.called = CalledFiles()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.called.start()

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.called.stop()


@pytest.fixture(scope="module")
def small_config(make_config: Callable[..., Config]) -> Config:
    """The `small` network with random weights, one epoch of both tasks, no worker processes."""
    tree = make_config({"epochs": 1}).model_dump(mode="json")
    model = {"preset": "small", "pretrained": "none"}
    return parse_config({**tree, "model": model, "train": {**tree["train"], "workers": 0}}, source="test")


@pytest.fixture(scope="module")
def epoch(small_config: Config, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, set[str]]:
    """A run of one epoch, and the files of that epoch."""
    profiler = EpochProfiler()
    out = tmp_path_factory.mktemp("runs") / "small"
    run = train_validated(small_config, read_manifest(dataset), dataset, out, callbacks=[profiler])
    return run, profiler.called.names


def test_an_epoch_of_training_calls_few_files(epoch: tuple[RunFolder, set[str]]) -> None:
    _, files = epoch
    assert {"training/module.py", "training/losses.py", "model/decoder.py", "data/dataset.py"} <= files
    assert len(files) <= MAX_FILES_OF_AN_EPOCH, sorted(files)


def test_one_prediction_calls_few_files(epoch: tuple[RunFolder, set[str]], dataset: Path) -> None:
    predictor = mnsa.load(epoch[0].path)
    image = min((dataset / "images").iterdir())
    with called_files() as called:
        predictor.predict(image)
    assert {"inference/predictor.py", "model/decoder.py", "model/enhancer.py"} <= called.names
    assert len(called.names) <= MAX_FILES_OF_A_PREDICTION, sorted(called.names)
