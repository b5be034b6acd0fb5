"""One process trains a run, with the config and the images that it began with."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnsa.config import Config
from mnsa.errors import ConfigError, DataError, RunError, TrainingInterruptedError
from mnsa.io import lock
from mnsa.run_folder import RunFolder
from mnsa.structures import Batch
from mnsa.training.fit import resume, train
from mnsa.training.module import StageModule
from mnsa.training.session import run_session, save_error


def test_a_second_process_is_refused_with_the_name_of_the_first(own_run: RunFolder) -> None:
    with (
        lock(own_run.training_lock_file, names_owner=True),
        pytest.raises(RunError, match=rf"is being trained by process {os.getpid()} on .* since 20"),
    ):
        resume(own_run.path)
    resume(own_run.path)


def test_what_a_killed_process_left_is_removed_but_not_what_others_write(own_run: RunFolder) -> None:
    left = [own_run.path / ".0123456789abcdef.tmp.csv", own_run.model_folder / ".0123456789abcdef.tmp.safetensors"]
    others = own_run.path / ".0123456789abcdef.tmp.json"  # scores of an evaluation that runs beside
    for file in (*left, others):
        file.touch()
    with run_session(own_run, writes=True):
        pass
    assert not any(file.exists() for file in left)
    assert others.exists()


@pytest.mark.parametrize("kind", ["images", "vein_masks"])
def test_images_that_changed_are_refused_by_name(
    own_dataset: Path, make_config: Callable[..., Config], tmp_path: Path, kind: str
) -> None:
    run = train(make_config({"epochs": 1}), own_dataset, tmp_path / "run")
    first, second = sorted((own_dataset / kind).iterdir())[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match=rf"1 files has changed since .*{kind}/{first.name}"):
        resume(run.path)


def test_files_of_the_test_split_are_not_compared(own_dataset: Path, own_run: RunFolder) -> None:
    names = json.loads(own_run.dataset_files_file.read_text())
    assert len(names) == 2 * 15  # 12 images of train and 3 of val, with their masks


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_training_with_the_command_that_continues_it(
    dataset: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    step, handler = StageModule.training_step, signal.getsignal(number)

    def interrupted(self: StageModule, batch: Batch, index: int) -> torch.Tensor:
        if self.current_epoch == 1:
            os.kill(os.getpid(), number)
        return step(self, batch, index)

    monkeypatch.setattr(StageModule, "training_step", interrupted)
    with pytest.raises(TrainingInterruptedError, match=rf"\({number.name}\) in epoch 2 .*--resume") as ended:
        train(make_config(), dataset, tmp_path / "run")
    assert ended.value.exit_code == code
    assert signal.getsignal(number) == handler


def test_a_signal_before_the_first_epoch_says_how_to_go_on(own_run: RunFolder) -> None:
    if os.name == "nt":
        pytest.skip("signals of POSIX")
    with pytest.raises(TrainingInterruptedError, match=r"\(SIGTERM\).*--resume"), run_session(own_run, writes=True):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def break_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the loss, the gradient or what BatchNorm sees NaN, in the second step of the second epoch."""

    def break_(what: str) -> None:
        step = StageModule.training_step

        def broken(self: Any, batch: Batch, index: int) -> torch.Tensor:
            if (self.current_epoch, index) != (1, 1):
                return step(self, batch, index)
            if what == "image":
                batch.images[0, 0, 0, 0] = float("nan")
            loss = step(self, batch, index)
            if what == "loss":
                self._loss_is_finite = False
                return loss * float("nan")
            if what == "gradient":
                loss.register_hook(lambda gradient: gradient * float("inf"))
            return loss

        monkeypatch.setattr(StageModule, "training_step", broken)

    return break_


@pytest.mark.parametrize("what", ["loss", "gradient", "image"])
def test_a_step_that_is_not_finite_ends_training(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, break_step: Callable[[str], None], what: str
) -> None:
    break_step(what)
    with pytest.raises(ConfigError, match=r"not a finite number in epoch 2, step 2\..*train\.on_nan"):
        train(make_config(), dataset, tmp_path / "run")


@pytest.mark.parametrize("what", ["loss", "gradient", "image"])
def test_a_step_that_is_not_finite_can_be_left_out_and_is_counted(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, break_step: Callable[[str], None], what: str
) -> None:
    import csv

    from safetensors.torch import load_file

    break_step(what)
    run = train(make_config(train={"on_nan": "skip"}), dataset, tmp_path / "run")
    rows = list(csv.DictReader(run.metrics_file.read_text().splitlines()))
    assert [row["skipped_steps"] for row in rows] == ["0", "1"]
    assert all(value.isfinite().all() for value in load_file(run.model_folder / "model.safetensors").values())


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "are free"), (errno.EFBIG, "ulimit"), (errno.EPERM, "not")]
)
def test_a_file_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path, number: int, says: str) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "last.ckpt"))
    message = str(save_error(error, tmp_path))
    assert str(tmp_path / "last.ckpt") in message
    assert says in message
    assert f"mnsa train --resume {tmp_path}" in message
