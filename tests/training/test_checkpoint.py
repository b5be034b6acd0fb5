"""A checkpoint is verified when it is written and when it is read; what is whole is used, and the rest is said."""

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mnsa.checked_files import write_checked
from mnsa.config import Config
from mnsa.errors import ConfigError, RunError
from mnsa.run_folder import RunFolder
from mnsa.structures import Batch
from mnsa.training import checkpoint
from mnsa.training.checkpoint import RECORD, VerifiedCheckpointIO, find_checkpoint, read_checkpoint
from mnsa.training.fit import resume, train
from mnsa.training.module import StageModule
from mnsa.training.session import save_error
from narrowing import some


def save(folder: Path, name: str, epoch: int, best: int, batches: int = 0, processes: int = 1) -> Path:
    record = {"best_epoch": best, "batches": batches, "processes": processes}
    state = {"epoch": epoch, "state_dict": {"a": torch.full((1000,), float(epoch))}, RECORD: record}
    VerifiedCheckpointIO().save_checkpoint(state, folder / name)
    return folder / name


def flip(file: Path, place: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 4
    file.write_bytes(data)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """The checkpoints of a stage of five epochs; the third one (2, counted from 0) was the best."""
    folder = tmp_path / "joint"
    for epoch in range(5):
        if epoch in (0, 2):
            save(folder, "best.ckpt", epoch, epoch)
        save(folder, "last.ckpt", epoch, 0 if epoch < 2 else 2)
    return folder


def contents(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.model_folder / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_stage_keeps_each_checkpoint_and_the_one_before(stage: Path) -> None:
    epochs = {path.name: read_checkpoint(path)["epoch"] for path in stage.glob("*.ckpt")}
    assert epochs == {"last.ckpt": 4, "last.previous.ckpt": 3, "best.ckpt": 2, "best.previous.ckpt": 0}


def test_the_sums_are_those_of_sha256sum(stage: Path) -> None:
    if (sha256sum := shutil.which("sha256sum")) is None:
        pytest.skip("no sha256sum here")
    import subprocess

    line = (stage / "last.ckpt.sha256").read_text().splitlines()[0]
    checked = subprocess.run([sha256sum, "--check"], input=line, cwd=stage, capture_output=True, text=True, check=False)
    assert checked.stdout == "last.ckpt: OK\n"


@pytest.mark.parametrize(
    ("damaged", "newest", "epoch"),
    [
        ((), "last.ckpt", 4),
        (("last.ckpt",), "last.previous.ckpt", 3),
        (("last.ckpt", "last.previous.ckpt"), "best.ckpt", 2),
        (("best.previous.ckpt",), "last.ckpt", 4),
        (("best.ckpt",), "best.previous.ckpt", 0),  # from there on, training repeats the best epoch
        (("last.ckpt", "last.previous.ckpt", "best.ckpt"), "best.previous.ckpt", 0),
    ],
)
def test_training_goes_on_from_the_newest_state_that_is_whole(
    stage: Path, damaged: tuple[str, ...], newest: str, epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    for name in damaged:
        flip(stage / name)
    found = some(find_checkpoint(stage, writes=True))
    assert (found.path.name, found.epoch) == (newest, epoch)
    assert read_checkpoint(stage / "best.ckpt")["epoch"] == found.record["best_epoch"]
    assert all(f"{name} is damaged" in caplog.text for name in damaged)
    assert bool(caplog.text) == bool(damaged)


def test_a_best_epoch_that_is_also_the_last_is_taken_from_there(tmp_path: Path) -> None:
    best, last = save(tmp_path, "best.ckpt", 3, 3), save(tmp_path, "last.ckpt", 3, 3)
    flip(best)
    assert some(find_checkpoint(tmp_path, writes=True)).path == last
    assert read_checkpoint(best)["epoch"] == 3


@pytest.mark.parametrize(
    ("damaged", "processes", "newest", "next_batch"),
    [
        ((), 2, "step.ckpt", (5, 8)),
        (("step.ckpt",), 2, "step.previous.ckpt", (5, 4)),
        (("step.ckpt", "step.previous.ckpt"), 2, "last.ckpt", (5, 0)),
        ((), 1, "last.ckpt", (5, 0)),  # one process would take other batches than the two have taken
    ],
)
def test_training_goes_on_within_an_epoch(
    stage: Path, damaged: tuple[str, ...], processes: int, newest: str, next_batch: tuple[int, int]
) -> None:
    for batches in (4, 8):
        save(stage, "step.ckpt", 5, 2, batches, processes=2)
    for name in damaged:
        flip(stage / name)
    found = some(find_checkpoint(stage, writes=True, processes=processes))
    assert (found.path.name, found.next_batch) == (newest, next_batch)


def test_the_first_epoch_needs_no_best_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, "step.ckpt", 0, -1, batches=3)
    assert some(find_checkpoint(tmp_path, writes=True)).next_batch == (0, 3)
    assert not caplog.text


def test_a_step_of_an_epoch_that_is_complete_is_passed_over(stage: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(stage, "step.ckpt", 4, 2, batches=8)  # a process was killed before it could remove it
    assert some(find_checkpoint(stage, writes=True)).path.name == "last.ckpt"
    save(stage, "best.ckpt", 4, 4)
    save(stage, "last.ckpt", 4, 4)
    assert some(find_checkpoint(stage, writes=True)).next_batch == (5, 0)
    assert not caplog.text


def test_nothing_whole_is_nothing_found(stage: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in stage.glob("*.ckpt"):
        file.write_bytes(b"")
    assert find_checkpoint(stage, writes=True) is None
    assert "no checkpoint before it is whole" in caplog.text


@pytest.mark.parametrize("step", ["open", "half", "sync", "sums", "link", "rename"])
def test_a_save_that_ends_at_any_step_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The steps of a save are cut off one after the other, twice, as a process that is killed would leave them."""

    class KilledError(Exception):
        pass

    def die(*arguments: Any, **options: Any) -> Any:
        raise KilledError

    for epoch in range(3):
        save(tmp_path, "best.ckpt", epoch, epoch)
        save(tmp_path, "last.ckpt", epoch, epoch)
    replace = Path.replace
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda *a, **k: None)  # a killed process removes nothing
            if step == "open":
                patch.setattr("torch.save", die)
            elif step == "half":
                patch.setattr("torch.save", lambda state, file: (file.write(b"half"), die()))
            elif step == "sync":
                patch.setattr("os.fsync", die)
            elif step == "sums":
                patch.setattr("mnsa.checked_files._write_digests", die)
            elif step == "link":
                patch.setattr("mnsa.checked_files._link_or_copy", die)
            else:
                patch.setattr(Path, "replace", lambda a, b: die() if b.name == "last.ckpt" else replace(a, b))
            with pytest.raises(KilledError):
                save(tmp_path, "last.ckpt", 3, 2)
        found = some(find_checkpoint(tmp_path, writes=True))
        assert (found.path.name, found.epoch) == ("last.ckpt", 2)
    assert not list(tmp_path.glob(".*"))  # what was left is swept
    save(tmp_path, "last.ckpt", 3, 2)
    assert some(find_checkpoint(tmp_path, writes=True)).epoch == 3


def test_a_disk_that_gives_back_other_bytes_is_found_before_the_old_file_is_replaced(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mnsa.io

    real = mnsa.io.sha256_file
    monkeypatch.setattr("mnsa.checked_files.sha256_file", lambda path: "0" * 64 if ".tmp" in path.name else real(path))
    with pytest.raises(OSError, match="other bytes"):
        save(stage, "last.ckpt", 5, 2)
    monkeypatch.undo()
    assert read_checkpoint(stage / "last.ckpt")["epoch"] == 4


def test_a_full_disk_is_named_with_the_size_that_the_file_would_have(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    size = (stage / "last.ckpt").stat().st_size
    monkeypatch.setattr(checkpoint, "write_checked", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*last\.ckpt") as error:
        save(stage, "last.ckpt", 4, 2)
    assert error.value.needed == size  # type: ignore[attr-defined]
    assert f"{size / 1e6:,.1f} MB are needed" in str(save_error(error.value, stage))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EPERM, errno.EACCES, errno.EIO])
def test_the_first_save_that_fails_ends_training(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write, calls = write_checked, []

    def refuse(path: Path, *arguments: Any, **options: Any) -> str:
        calls.append(path.name)
        if calls.count("last.ckpt") == 2:
            raise OSError(number, "refused")
        return write(path, *arguments, **options)

    monkeypatch.setattr(checkpoint, "write_checked", refuse)
    with pytest.raises(RunError, match=r"last\.ckpt can't be written: refused.*mnsa train --resume"):
        train(make_config(), dataset, tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "joint" / "last.ckpt")["epoch"] == 0
    assert not (tmp_path / "run" / "model").exists()


def test_weights_that_are_not_finite_are_never_saved(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({"epochs": 1, "lr": 1e300, "batch_size": 12, "optimizer": "sgd"})  # one step: its loss is fine
    with pytest.raises(ConfigError, match=r"not finite .*stages\.joint\.lr"):
        train(config, dataset, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_a_moved_run_remembers_its_best_score(
    dataset: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    script_scores: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_scores(0.9)
    step = StageModule.training_step

    def stop_in_second_epoch(self: StageModule, batch: Batch, index: int) -> torch.Tensor:
        if self.current_epoch:
            raise ZeroDivisionError
        return step(self, batch, index)

    monkeypatch.setattr(StageModule, "training_step", stop_in_second_epoch)
    with pytest.raises(ZeroDivisionError):
        train(make_config({"epochs": 3}), dataset, tmp_path / "run")
    monkeypatch.setattr(StageModule, "training_step", step)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    script_scores(0.2, 0.3)
    resume(tmp_path / "moved")
    assert read_checkpoint(tmp_path / "moved" / "checkpoints" / "joint" / "best.ckpt")["epoch"] == 0


@pytest.mark.parametrize("lost", ["best.ckpt", "last.ckpt"])
def test_a_finished_run_gets_a_damaged_checkpoint_back(own_run: RunFolder, finished: RunFolder, lost: str) -> None:
    flip(own_run.checkpoint_folder("joint") / lost)
    resume(own_run.path)
    assert equal(contents(own_run), contents(finished))


def test_a_stage_is_done_only_after_its_best_epoch_was_read(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnsa.training import fit

    def fail(path: Path) -> Any:
        raise OSError(errno.EIO, "broken disk", str(path))

    monkeypatch.setattr(fit, "read_checkpoint", fail)
    with pytest.raises(RunError, match="broken disk"):
        train(make_config({"epochs": 1}), dataset, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "joint" / "done").exists()


def test_lost_checkpoints_beside_done_epochs_are_said(own_run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    for file in own_run.checkpoint_folder("joint").iterdir():
        file.unlink()
    caplog.set_level(logging.WARNING, logger="mnsa")
    resume(own_run.path)
    assert "No checkpoint of stage 'joint' is left, so it starts again from epoch 1" in caplog.text


@pytest.mark.parametrize("cut", [0, 30, 150, -20])
def test_a_damaged_table_of_metrics_is_written_again(own_run: RunFolder, finished: RunFolder, cut: int) -> None:
    own_run.metrics_file.write_bytes(own_run.metrics_file.read_bytes()[:cut])
    resume(own_run.path)
    assert own_run.metrics_file.read_text() == finished.metrics_file.read_text()


def test_a_changed_config_is_refused_by_its_keys(own_run: RunFolder) -> None:
    text = own_run.config_file.read_text()
    own_run.config_file.write_text(text.replace("lr = 0.01", "lr = 0.81").replace("seed = 1", "seed = 3"))
    with pytest.raises(RunError, match=r"train\.seed \(was 1, is 3\), stages\.joint\.lr \(was 0\.01, is 0\.81\)"):
        resume(own_run.path)


def test_keys_that_change_no_result_may_be_changed(own_run: RunFolder) -> None:
    text = own_run.config_file.read_text()
    assert "workers = 0" in text
    own_run.config_file.write_text(text.replace("workers = 0", "workers = 1"))
    resume(own_run.path)


def test_a_damaged_config_is_restored(own_run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    text = own_run.config_file.read_text()
    own_run.config_file.write_text(text[: len(text) // 2] + "\x00")
    resume(own_run.path)
    assert own_run.config_file.read_text() == text
    assert "It is restored from" in caplog.text
