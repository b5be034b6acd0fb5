"""Checkpoints of a stage: write and verify them, stop between two steps, and find what is whole after a crash.

last.ckpt is the training state after the newest epoch, best.ckpt that after the epoch with the best validation score,
step.ckpt that between two steps of an epoch that was not complete when it was written.
Each has its previous content in NAME.previous.ckpt, and the SHA-256 of both in NAME.ckpt.sha256.
"""

import errno
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, cast

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from torch import distributed

from mnsa.checked_files import DamagedFileError, digest_file, require_whole, write_checked
from mnsa.errors import ConfigError, RunError
from mnsa.io import remove_temporaries
from mnsa.model.weights import find_not_finite
from mnsa.signals import StopSignal, raise_if_stopped, shielded, stop_number
from mnsa.training.loggers import CSVMetricsLogger

RECORD = "mnsa"  # key of what this project adds to Lightning's checkpoint

STEP = "step.ckpt"

_STEP_LIMIT_S = 5.0  # of a step, after a signal; then the step is given up

_NAMES = (STEP, "step.previous.ckpt", "last.ckpt", "last.previous.ckpt", "best.ckpt", "best.previous.ckpt")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A whole checkpoint. record: what `CheckpointCallback` has added.

    epoch: the last one that was trained, counted from 0. batches: how many of it were; 0: all, and it was validated.
    """

    path: Path
    epoch: int
    record: Mapping[str, Any]

    @property
    def batches(self) -> int:
        return int(self.record.get("batches", 0))

    @property
    def next_batch(self) -> tuple[int, int]:
        """The epoch and the batch that come next, counted from 0."""
        return (self.epoch, self.batches) if self.batches else (self.epoch + 1, 0)


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
        for file in (Path(path), _previous(Path(path)), digest_file(Path(path))):
            file.unlink(missing_ok=True)


class CheckpointCallback(Checkpoint):
    """Saves checkpoints after epochs and between steps, and stops between two steps after a signal.

    last.ckpt is saved after every epoch, best.ckpt after every epoch with a better validation score, and step.ckpt when
    `minutes` have passed since the last save (0: never) and before a signal ends the training. Several processes stop
    at the same step. Lightning calls it after all other callbacks.
    config, metrics: what else a checkpoint holds, to restore config.toml and metrics.csv. saved: the place of the
    newest checkpoint. Raises: ConfigError for weights that are not finite; OSError when a file can't be
    written; StopSignal.
    """

    def __init__(self, folder: Path, stage: str, config: str, metrics: CSVMetricsLogger, minutes: float = 0.0) -> None:
        self.folder = folder
        self.stage = stage
        self.config = config
        self.metrics = metrics
        self.best_score, self.best_epoch = float("-inf"), -1
        self.saved = "its start"
        self._every_s, self._saved_s = 60 * minutes, time.monotonic()
        self._loops: dict[str, Any] = {}  # Lightning's counters after the last step of this epoch
        self._is_between_steps = False
        self._group: Any = None
        self._stack = ExitStack()

    def on_fit_start(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        if trainer.world_size > 1:
            # A signal is one number in the memory of the CPU: the steps of a GPU don't wait for it.
            self._group = distributed.new_group(backend="gloo")
        self._stack.enter_context(shielded(limit_s=0.0 if self._group else _STEP_LIMIT_S))
        self._saved_s = time.monotonic()

    def on_train_batch_start(self, *_arguments: Any) -> None:
        self._is_between_steps = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, _outputs: Any, _batch: Any, batch_idx: int
    ) -> None:
        self._loops = trainer.fit_loop.state_dict()
        if batch_idx + 1 == trainer.num_training_batches:
            _continue_with_validation(self._loops)
        self._is_between_steps = True
        is_due = 0 < self._every_s <= time.monotonic() - self._saved_s
        if self._agree(is_due=is_due):
            self._save(trainer, STEP)

    def on_validation_start(self, *_arguments: Any) -> None:
        self._is_between_steps = False

    def on_validation_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, _batch: Any, batch_idx: int, *_: Any
    ) -> None:
        loader: Any = trainer.val_dataloaders
        in_all = -(-(len(loader.dataset) // trainer.world_size) // loader.batch_size)
        if batch_idx >= in_all:  # one process may have a batch more than another
            return
        try:
            self._agree()
        except StopSignal:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, module)  # gives the current weights back
            self._is_between_steps = True
            raise

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        self._loops, self._is_between_steps = {}, False
        score = float(trainer.callback_metrics["val_score"].nan_to_num(nan=float("-inf")))
        if score > self.best_score or self.best_epoch < 0:
            self.best_score, self.best_epoch = score, trainer.current_epoch
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")
        trainer.strategy.remove_checkpoint(self.folder / STEP)
        self._agree()

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
        if self._loops:
            checkpoint["loops"]["fit_loop"] = self._loops
        finished = bool(trainer.should_stop) or trainer.current_epoch + 1 == trainer.max_epochs
        checkpoint[RECORD] = {
            "config": self.config, "metrics": self.metrics.rows, "best_score": self.best_score,
            "best_epoch": self.best_epoch, "finished": finished and not self._loops, "batches": self._batches(),
            "processes": trainer.world_size,
        }  # fmt: skip

    def on_load_checkpoint(
        self, _trainer: lightning.Trainer, _module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        record = checkpoint[RECORD]
        self.best_score, self.best_epoch = record["best_score"], record["best_epoch"]
        self.saved = _describe_place(checkpoint["epoch"], record.get("batches", 0))

    def on_fit_end(self, *_arguments: Any) -> None:
        self._stack.close()

    def on_exception(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, StopSignal) and self._is_between_steps and self._loops:
            self._save(trainer, STEP)
        if trainer.validating:
            trainer.training = True  # else Lightning would leave the processes of the training loader to themselves
        with suppress(StopSignal):
            self._stack.close()

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name)
        self._saved_s, self.saved = time.monotonic(), _describe_place(trainer.current_epoch, self._batches())

    def _batches(self) -> int:
        """Count the batches of this epoch, up to the last step; 0 after an epoch."""
        return int(self._loops["epoch_loop.batch_progress"]["current"]["ready"]) if self._loops else 0

    def _agree(self, *, is_due: bool = False) -> bool:
        """Tell all processes that a signal has arrived, or that a save is due for the first. Raises: StopSignal."""
        if self._group is None:
            raise_if_stopped()
            return is_due
        numbers = torch.tensor([stop_number() or 0, is_due and distributed.get_rank() == 0])
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._group)
        if numbers[0]:
            raise StopSignal(int(numbers[0]))
        return bool(numbers[1])


def _continue_with_validation(loops: dict[str, Any]) -> None:
    """Change the counters after the last step of an epoch, so that Lightning continues with the validation.

    It would skip it otherwise. With these counters, it takes the validation for one that has begun.
    """
    for counts in (loops["epoch_loop.batch_progress"][name] for name in ("total", "current")):
        counts["completed"] = counts["ready"]
    for counts in (loops["epoch_loop.val_loop.batch_progress"][name] for name in ("total", "current")):
        counts |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}


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


def find_checkpoint(folder: Path, *, writes: bool, processes: int = 1) -> Found | None:
    """Find the newest whole checkpoint of a stage whose best epoch is whole too, and put that in best.ckpt.

    A damaged file is replaced by the newest whole state before it: training goes on from there, and repeats the epochs
    after it to the same weights. What was damaged is logged. writes: False in all processes but the first. processes:
    that train together; a state between two steps of another number is of no use.
    Returns: None when nothing is whole. Raises: RunError when a file can't be read, or is of another version.
    """
    if writes:
        remove_temporaries(folder)
    found, damaged = _read_all(folder)
    for one in sorted(found, key=lambda one: one.next_batch, reverse=True):  # stable: last.ckpt before best.ckpt
        same = [other for other in found if other.epoch == one.record["best_epoch"] and not other.batches]
        best = min(same, key=lambda other: other.path.name != "best.ckpt", default=None)
        if one.batches and one.record["processes"] != processes:
            if writes:
                number = one.record["processes"]
                logger.info(f"{one.path} was saved with {number} processes, not {processes}, and is not used.")
            continue
        if best is None and one.record["best_epoch"] >= 0:
            continue
        if writes:
            _use(folder, one, best, damaged)
        return one
    if writes and (damaged or found):
        lost = ", ".join(damaged) or "best.ckpt is missing"
        logger.warning(f"{folder}: {lost}, and no checkpoint before it is whole.")
    return None


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


def _use(folder: Path, newest: Found, best: Found | None, damaged: Sequence[str]) -> None:
    """Put the best checkpoint in its place, and say if these are not the files that a whole stage has."""
    if best is not None and best.path.name != "best.ckpt":
        content = best.path.read_bytes()
        write_checked(folder / "best.ckpt", lambda file: file.write(content), previous=folder / "best.previous.ckpt")
    place = _describe_place(newest.epoch, newest.batches)
    usual = newest.path.name in (STEP, "last.ckpt") and (best is None or best.path.name == "best.ckpt")
    if damaged or not usual:
        lost = "; ".join(damaged) or "a checkpoint is missing"
        logger.warning(f"{folder}: {lost}. Training goes on from {place}, which is whole in {newest.path.name}.")
    elif newest.batches:
        logger.info(f"{folder.name}: training goes on from {place}.")


def _describe_place(epoch: int, batches: int) -> str:
    return f"batch {batches} of epoch {epoch + 1}" if batches else f"the end of epoch {epoch + 1}"


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
