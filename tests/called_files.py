"""Which files of the package one epoch and one prediction cross: written as JSON by `python called_files.py`.

In a process of its own: when profiling begins in a process that has run many other tests, Python 3.11 may never return
from a call.
Arguments: a config, a data set, and the folder of a new run.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import lightning
from lightning.pytorch.callbacks import Callback

import mnsa
from mnsa.config import load_config
from mnsa.data.manifest import read_manifest
from mnsa.training.fit import train_validated

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
    """Record the files of the block."""
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


def main(config: Path, dataset: Path, out: Path) -> None:
    """Train an epoch, predict an image, and write the files of both to standard output."""
    profiler = EpochProfiler()
    run = train_validated(load_config(config), read_manifest(dataset), dataset, out, callbacks=[profiler])
    predictor = mnsa.load(run.path)
    with called_files() as called:
        predictor.predict(min((dataset / "images").iterdir()))
    sys.stdout.write(json.dumps({"epoch": sorted(profiler.called.names), "prediction": sorted(called.names)}) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
