"""Lightning's trainer for one stage: its callbacks, its precision, and none of its own messages and files."""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import Logger

from mnsa.config import StageConfig, TrainConfig
from mnsa.data.dataset import LeafDataModule
from mnsa.errors import MnsaError, RunError
from mnsa.training.batch_parts import BatchPartsCallback
from mnsa.training.checkpoint import VerifiedCheckpointIO
from mnsa.training.collectives import BatchNormSync
from mnsa.training.processes import WatchedDDPStrategy, count_processes

_JOIN_S = 5.0
PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}
# Parts of Lightning's warnings that a user can't act on: about its loaders, its own deprecations, its defaults.
_LIGHTNING_ADVICE = (
    "many workers|not resumable|LeafSpec|exists and is not empty|in eval mode|logging interval|Grad strides"
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages: hardware, tips, and warnings that a user can't act on."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*({_LIGHTNING_ADVICE})")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextmanager
def loader_errors(loaders: LeafDataModule, run: Path) -> Iterator[None]:
    """Raise failures of the processes that load images as errors of one paragraph, and leave no process behind.

    Raises: RunError when a process was killed or takes too long; the errors of reading an image.
    """
    before = set(active_children())
    try:
        yield
    except MnsaError as error:
        kind, text = type(error), str(error)
        if not text.startswith("Caught "):
            raise
        raise kind(text.rpartition(f"{kind.__name__}: ")[2].strip()) from None  # without the traceback of the process
    except RuntimeError as error:
        reason, resume = str(error).partition("\n")[0], f"continue with: mnsa train --resume {run}"
        if "DataLoader timed out" in reason:
            names = ", ".join(dict.fromkeys(loaders.rows_in_progress())) or "unknown"
            raise RunError(
                f"No batch was loaded for {loaders.timeout_s:g} s (train.loader_timeout_s). The images that were being "
                f"loaded: {names}. Check the disk that they are on, or raise the limit. Then {resume}"
            ) from None
        if "DataLoader worker" in reason:
            raise RunError(
                f"A process that loads images has ended: {reason.rstrip('. ')}. Often it is short of memory: lower "
                f"train.workers or the batch size. Complete epochs are saved. To go on, {resume}"
            ) from None
        raise
    finally:
        for process in set(active_children()) - before:
            for end in (process.kill, partial(process.join, _JOIN_S), partial(process.join, _JOIN_S)):
                with suppress(RuntimeError):  # torch's own, for each process that it sees end
                    end()


def build_trainer(
    folder: Path, train: TrainConfig, stage: StageConfig, callbacks: Sequence[Callback], loggers: list[Logger], *,
    devices: int, progress: bool | None,
) -> lightning.Trainer:  # fmt: skip
    """Build the trainer of a stage.

    folder: of the run. callbacks: beside those that the config asks for. progress: as in `mnsa.training.fit.train`.
    """
    shows_bar = _shows_progress_bar(progress)
    distributed = count_processes(devices) > 1
    together = [BatchPartsCallback()] if distributed else []
    environment = [] if TorchElasticEnvironment.detect() else [LightningEnvironment()]  # never SLURM_NTASKS
    trainer = lightning.Trainer(
        max_epochs=stage.epochs,
        precision=PRECISIONS[train.precision],
        gradient_clip_val=train.gradient_clip or None,
        devices=devices,
        strategy=WatchedDDPStrategy() if distributed else "auto",
        plugins=[*environment, VerifiedCheckpointIO(), *([BatchNormSync()] if distributed else [])],
        use_distributed_sampler=False,  # `EpochSampler` divides the rows among the processes
        callbacks=[
            *callbacks,
            *together,
            *_configured_callbacks(train, stage, monitors_lr=bool(loggers), shows_bar=shows_bar),
        ],
        logger=loggers or False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=shows_bar,
        default_root_dir=folder,
    )
    # Lightning's handler of SIGTERM would wait for the other processes in a step. `CheckpointCallback` stops.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


def _configured_callbacks(
    train: TrainConfig, stage: StageConfig, *, monitors_lr: bool, shows_bar: bool
) -> Iterator[Callback]:
    if stage.patience:
        yield EarlyStopping("val_score", mode="max", patience=stage.patience)
    if train.ema_decay:
        yield EMAWeightAveraging(decay=train.ema_decay)
    if monitors_lr:
        yield LearningRateMonitor(logging_interval="epoch")
    if shows_bar:
        yield _ProgressBar()


class _ProgressBar(TQDMProgressBar):
    """Counts epochs from 1, as the lines of the log do."""

    def on_train_start(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        super().on_train_start(trainer, *arguments)
        if trainer.fit_loop.restarted_mid_epoch:  # then Lightning starts no epoch
            self.on_train_epoch_start(trainer, *arguments)

    def on_train_epoch_start(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")


def _shows_progress_bar(progress: bool | None) -> bool:
    """Apply the default of `progress`: a bar on a terminal and in a notebook, none in a log file."""
    return (sys.stdout.isatty() or "ipykernel" in sys.modules) if progress is None else progress
