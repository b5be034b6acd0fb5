"""Checkpoints of a stage: write and verify them, stop between two steps, and find what is whole after a crash.

last.ckpt is the training state after the newest epoch, best.ckpt that after the epoch with the best validation score.
Each has its previous content in NAME.previous.ckpt, and the SHA-256 of both in NAME.ckpt.sha256.
"""

import errno
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, cast

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import distributed

from mnsa.checked_files import DamagedFileError, require_whole, write_checked
from mnsa.errors import ConfigError, MnsaError, RunError
from mnsa.io import remove_temporaries
from mnsa.model.weights import find_not_finite
from mnsa.signals import StopSignal, raise_if_stopped, shielded, stop_number
from mnsa.training.loggers import CSVMetricsLogger

RECORD = "mnsa"  # key of what this project adds to Lightning's checkpoint

_NAMES = ("last.ckpt", "last.previous.ckpt", "best.ckpt", "best.previous.ckpt")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A whole checkpoint. epoch: counted from 0. record: what `CheckpointCallback` has added."""

    path: Path
    epoch: int
    record: Mapping[str, Any]


class VerifiedCheckpointIO(CheckpointIO):
    """Writes Lightning's checkpoints beside their target, verifies them, and keeps the one before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None  # noqa: ARG002
    ) -> None:  # fmt: skip
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with shielded():
                write_checked(target, lambda file: torch.save(checkpoint, file), previous=_previous(target))
        except OSError as error:
            error.filename, error.filename2 = str(target), None  # not the temporary file's
            error.needed = _count_bytes(checkpoint)  # type: ignore[attr-defined]
            raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None  # noqa: ARG002
    ) -> dict[str, Any]:  # fmt: skip
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


class CheckpointCallback(Checkpoint):
    """Saves last.ckpt after every epoch, and best.ckpt after every epoch with a better validation score.

    config, metrics: what else a checkpoint holds, to restore config.toml and metrics.csv. Raises: ConfigError for
    weights that are not finite; OSError when a file can't be written.
    """

    def __init__(self, folder: Path, stage: str, config: str, metrics: CSVMetricsLogger) -> None:
        self.folder = folder
        self.stage = stage
        self.config = config
        self.metrics = metrics
        self.best_score, self.best_epoch = float("-inf"), -1

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        score = float(trainer.callback_metrics["val_score"].nan_to_num(nan=float("-inf")))
        if score > self.best_score or self.best_epoch < 0:
            self.best_score, self.best_epoch = score, trainer.current_epoch
            trainer.save_checkpoint(self.folder / "best.ckpt")
        trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for state in (checkpoint["state_dict"], checkpoint.get("current_model_state", {})):
            if (name := find_not_finite(state)) is not None:
                raise ConfigError(
                    f"{name} has values that are not finite (NaN) after epoch {trainer.current_epoch + 1} of stage "
                    f"{self.stage!r}, so this epoch is not saved. Lower stages.{self.stage}.lr, or set train.precision "
                    "to float32."
                )
        finished = bool(trainer.should_stop) or trainer.current_epoch + 1 == trainer.max_epochs
        best = {"best_score": self.best_score, "best_epoch": self.best_epoch, "finished": finished}
        checkpoint[RECORD] = {"config": self.config, "metrics": self.metrics.rows, **best}

    def on_load_checkpoint(
        self, _trainer: lightning.Trainer, _module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        record = checkpoint[RECORD]
        self.best_score, self.best_epoch = record["best_score"], record["best_epoch"]


class StopCallback(Callback):
    """Stops training between two steps after a signal. Several processes tell each other, and stop at the same step."""

    def __init__(self) -> None:
        self._group: Any = None
        self._stack = ExitStack()

    def on_fit_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        if trainer.world_size > 1:
            # A signal is one number in the memory of the CPU: the steps of a GPU don't wait for it.
            self._group = distributed.new_group(backend="gloo")
            self._stack.enter_context(shielded())

    def on_train_batch_start(self, *_arguments: Any) -> None:
        self._raise_if_stopped()

    def on_validation_batch_start(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, _batch: Any, batch_idx: int, *_: Any
    ) -> None:
        loader: Any = trainer.val_dataloaders
        in_all = -(-(len(loader.dataset) // trainer.world_size) // loader.batch_size)
        if batch_idx < in_all:  # one process may have a batch more than another
            self._raise_if_stopped()

    def on_fit_end(self, *_arguments: Any) -> None:
        self._stack.close()

    def on_exception(self, *_arguments: Any) -> None:
        with suppress(StopSignal):
            self._stack.close()

    def _raise_if_stopped(self) -> None:
        if self._group is None:
            raise_if_stopped()
            return
        number = torch.tensor(stop_number() or 0)
        distributed.all_reduce(number, distributed.ReduceOp.MAX, group=self._group)
        if number:
            raise StopSignal(int(number))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or the previous content of one. Raises: DamagedFileError; other OSErrors."""
    written = path.with_name(path.name.replace(".previous", ""))
    require_whole(path, digests=written)
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedFileError(errno.EIO, f"it is damaged: {reason}", str(path)) from None
    return checkpoint


def find_checkpoint(folder: Path, *, writes: bool) -> Found | None:
    """Find the newest whole checkpoint of a stage whose best epoch is whole too, and put that in best.ckpt.

    A damaged file is replaced by the newest whole state before it: training goes on from there, and repeats the epochs
    after it to the same weights. What was damaged is logged. writes: False in all processes but the first.
    Returns: None when nothing is whole. Raises: RunError when a file can't be read, or is of another version.
    """
    if writes:
        remove_temporaries(folder)
    found, damaged = _read_all(folder)
    for one in sorted(found, key=lambda one: one.epoch, reverse=True):  # stable: last.ckpt before best.ckpt
        best = next((other for other in found if other.epoch == one.record["best_epoch"]), None)
        if best is None:
            continue
        if writes:
            _use(folder, one, best, damaged)
        return one
    if writes and (damaged or found):
        lost = ", ".join(damaged) or "best.ckpt is missing"
        logger.warning(f"{folder}: {lost}, and no checkpoint before it is whole.")
    return None


def save_error(error: OSError, run: Path) -> MnsaError:
    """Make the message for a file that could not be written in training."""
    path, needs = error.filename or run, ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(run).free
        needed = getattr(error, "needed", None)
        needs = f" {_format_size(needed)} are needed and" if needed else ""
        needs = f":{needs} {_format_size(free)} are free below {run}. Make room"
    elif error.errno == errno.EFBIG:
        needs = ", which is more than the limit of this process (ulimit -f). Raise it"
    else:
        needs = ". Fix that"
    return RunError(
        f"{path} can't be written: {error.strerror or error}{needs}, then continue with: mnsa train --resume {run}. "
        "Epochs that were saved before are whole."
    )


def _read_all(folder: Path) -> tuple[list[Found], list[str]]:
    """Read all checkpoints of a stage: those that are whole, and what is wrong with the others."""
    found, damaged = list[Found](), list[str]()
    for path in (folder / name for name in _NAMES):
        try:
            checkpoint = read_checkpoint(path)
        except FileNotFoundError:
            continue
        except DamagedFileError as error:
            damaged.append(f"{path.name} is damaged ({error.strerror})")
            continue
        except OSError as error:
            raise RunError(f"{path} can't be read: {error.strerror}. Make it readable, then resume again.") from None
        if RECORD not in checkpoint:
            raise RunError(f"{path} is of another version of mnsa, which has to continue it. Or train again.")
        found.append(Found(path, int(checkpoint["epoch"]), checkpoint[RECORD]))
    return found, damaged


def _use(folder: Path, newest: Found, best: Found, damaged: Sequence[str]) -> None:
    """Put the best checkpoint in its place, and say if these are not the files that a whole stage has."""
    if best.path.name != "best.ckpt":
        content = best.path.read_bytes()
        write_checked(folder / "best.ckpt", lambda file: file.write(content), previous=folder / "best.previous.ckpt")
    if damaged or newest.path.name != "last.ckpt" or best.path.name != "best.ckpt":
        lost = "; ".join(damaged) or "a checkpoint is missing"
        logger.warning(
            f"{folder}: {lost}. Training goes on from epoch {newest.epoch + 1}, which is whole in {newest.path.name}."
        )


def _previous(path: Path) -> Path:
    return path.with_suffix(f".previous{path.suffix}")


def _count_bytes(checkpoint: Mapping[str, Any]) -> int:
    """Count the bytes of the file that a checkpoint would be."""
    counter = _ByteCounter()
    torch.save(checkpoint, cast("IO[bytes]", counter))
    return counter.count


class _ByteCounter:
    """A file that keeps nothing but the number of bytes."""

    count = 0

    def write(self, data: bytes) -> int:
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is nothing to flush."""


def _format_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
