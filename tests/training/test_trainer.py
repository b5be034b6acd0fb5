"""The trainer shows a progress bar where someone looks at it, hides Lightning's messages, and names what fails."""

import logging
import os
import signal
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from types import ModuleType

import pytest

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.dataset import LeafDataModule
from mnsa.data.manifest import read_manifest
from mnsa.errors import DataError, RunError
from mnsa.training import trainer


@pytest.mark.parametrize(("terminal", "notebook"), [(False, False), (True, False), (False, True)])
def test_the_default_is_a_progress_bar_on_a_terminal_and_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, notebook: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert trainer._shows_progress_bar(None) == (terminal or notebook)
    assert trainer._shows_progress_bar(True)
    assert not trainer._shows_progress_bar(False)


def test_lightnings_messages_are_hidden_only_during_training() -> None:
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    with trainer.quiet_lightning():
        assert not lightning_logger.isEnabledFor(logging.WARNING)
    assert lightning_logger.level == level


@pytest.fixture
def loaders(dataset: Path) -> LeafDataModule:
    """One process that loads images, and may take a second for a batch."""
    return LeafDataModule(
        read_manifest(dataset), DataConfig(size=(32, 32)), AugmentConfig(), mean=(0.0,) * 3, std=(1.0,) * 3,
        batch_size=4, workers=1, seed=1, timeout_s=1.0,
    )  # fmt: skip


def read_first(loaders: LeafDataModule, run: Path) -> None:
    """Load a training batch, and require that no process is left."""
    try:
        with trainer.loader_errors(loaders, run):
            next(iter(loaders.train_dataloader()))
    finally:
        assert not active_children()


def test_an_image_that_hangs_is_named(loaders: LeafDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(iter(loaders.train_dataloader().sampler)).row
    monkeypatch.setattr("mnsa.data.dataset.read_sample", lambda *_arguments, **_options: time.sleep(600))
    name = loaders.train_set.manifest.rows[row].image
    with pytest.raises(RunError, match=rf"for 1 s \(train\.loader_timeout_s\).*: {name}\..*mnsa train --resume"):
        read_first(loaders, tmp_path)


def test_a_loader_process_that_is_killed_is_one_paragraph(
    loaders: LeafDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnsa.data.dataset.read_sample", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RunError, match=r"A process that loads images has ended: .*mnsa train --resume"):
        read_first(loaders, tmp_path)


def test_an_image_that_cannot_be_read_is_one_paragraph(
    loaders: LeafDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise DataError("leaf.jpg can't be read. Restore it.")

    monkeypatch.setattr("mnsa.data.dataset.read_sample", fail)
    with pytest.raises(DataError) as error:
        read_first(loaders, tmp_path)
    assert str(error.value) == "leaf.jpg can't be read. Restore it."


def test_loader_processes_leave_it_to_the_first_process_to_stop(
    loaders: LeafDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signal_itself(*_arguments: object, **_options: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        raise DataError("it lives")

    monkeypatch.setattr("mnsa.data.dataset.read_sample", signal_itself)
    with pytest.raises(DataError, match="it lives"):
        read_first(loaders, tmp_path)
