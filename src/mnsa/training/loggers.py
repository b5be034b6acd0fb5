"""Loggers: metrics.csv always; TensorBoard, MLflow and Weights & Biases if `train.loggers` names them.

Each stage is a run of its own in MLflow and W&B, named RUN/STAGE, with the whole config as hyperparameters. All files
are in the run folder's logs/ unless MLFLOW_TRACKING_URI or WANDB_MODE says otherwise. A resumed stage continues its
run.
"""

import csv
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor, distributed

from mnsa.config import Config
from mnsa.data.dataset import rank_and_world_size
from mnsa.errors import ConfigError, RunError, install_command
from mnsa.io import MAX_BYTES, atomic_write_text, read_text
from mnsa.run_folder import RunFolder

_LOGGER_PACKAGES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
_MAX_BYTES = 64 * MAX_BYTES  # of metrics.csv
_PROJECT = "mnsa"  # MLflow's experiment, W&B's project
_STAGE_TAG = "mnsa.stage"  # tag by which a resumed stage finds its MLflow run

logger = logging.getLogger(__name__)


class CSVMetricsLogger(Callback):
    """Append a row of losses and scores per epoch to a CSV file, and log them. A repeated epoch replaces its row.

    rows: of all epochs so far. A checkpoint holds them too, so that `repair_metrics` can write the file again.
    """

    def __init__(self, file: Path, stage: str) -> None:
        self.file = file
        self.stage = stage
        self.rows = _read_rows(file) or []
        self._start_s, self._first = time.monotonic(), 0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._start_s, self._first = time.monotonic(), trainer.current_epoch
        if trainer.is_global_zero:
            loaders: Any = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in fit
            logger.info(
                f"{self.stage}: {trainer.max_epochs} epochs of {trainer.num_training_batches} batches of "
                f"{loaders.batch_size}, from {len(loaders.train_set)} images, {len(loaders.val_set)} validation images,"
                f" on {_device_name(module)}"
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, _outputs: Any, _batch: Any, batch_idx: int
    ) -> None:
        steps = int(trainer.num_training_batches)
        if trainer.is_global_zero and (batch_idx + 1) % max(1, steps // 10) == 0:
            epochs = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
            logger.debug(f"{self.stage} {epochs}  batch {batch_idx + 1}/{steps}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = {"stage": self.stage, "epoch": str(trainer.current_epoch + 1)}
        row |= {name: f"{float(value):.5g}" for name, value in sorted(trainer.callback_metrics.items())}
        epoch = trainer.current_epoch
        self.rows = [row for row in self.rows if row["stage"] != self.stage or int(row["epoch"]) <= epoch]
        self.rows.append(row)
        _write_rows(self.file, self.rows)
        epoch_s = (time.monotonic() - self._start_s) / (epoch + 1 - self._first)
        left = _format_left(round(epoch_s * ((trainer.max_epochs or 0) - epoch - 1)))
        scores = "  ".join(f"{name} {row[name]}" for name in row if name == "loss" or name.startswith("val_"))
        extra = {"epoch": {**row, "epochs": str(trainer.max_epochs)}}
        logger.info("%s %s/%s  %s%s", self.stage, row["epoch"], trainer.max_epochs, scores, left, extra=extra)


class EpochMeans:
    """Means over the images of an epoch, and counts, for metrics.csv. A checkpoint holds the sums so far."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # name -> (2,): sum of the values, and what divides it

    def add(self, name: str, mean: Tensor, count: int) -> None:
        """Add the mean () of so many values."""
        mean = mean.float()
        self._add(name, torch.stack([mean * count, torch.full_like(mean, count)]))

    def count(self, name: str, more: bool) -> None:
        """Count something, which may have happened."""
        self._add(name, torch.tensor([float(more), float(name not in self._sums)]))

    def pop(self) -> dict[str, Tensor]:
        """Return the means and counts of this process by name, and begin the next epoch."""
        sums, self._sums = self._sums, {}
        return {name: total / count for name, (total, count) in sums.items()}

    def state(self) -> list[dict[str, Tensor]]:
        """Return the sums of each process. All processes have to call it."""
        own, (_, world_size) = {name: value.cpu() for name, value in self._sums.items()}, rank_and_world_size()
        sums: list[dict[str, Tensor]] = [own] * world_size
        if world_size > 1:
            distributed.all_gather_object(sums, own)
        return sums

    def load(self, state: Sequence[Mapping[str, Tensor]]) -> None:
        """Go on with the sums of this process."""
        rank, _ = rank_and_world_size()
        self._sums = dict(state[rank]) if rank < len(state) else {}

    def _add(self, name: str, more: Tensor) -> None:
        before = self._sums.get(name)
        self._sums[name] = more if before is None else before.to(more.device) + more


def _format_left(seconds: int) -> str:
    """The time left as text; empty where there is less than a second."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"  {hours}:{minutes:02}:{rest:02} left" if seconds > 0 else ""


def _device_name(module: lightning.LightningModule) -> str:
    device = module.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return f"{device.type} ({name})"


def repair_metrics(file: Path, rows: list[dict[str, str]]) -> None:
    """Write metrics.csv again if it doesn't begin with these rows, which a checkpoint holds. Raises: OSError."""
    if (_read_rows(file) or [])[: len(rows)] != rows:
        logger.warning(f"{file} was cut or changed. It is written again from the checkpoint.")
        _write_rows(file, rows)


def _read_rows(file: Path) -> list[dict[str, str]] | None:
    """Read the rows of metrics.csv without their empty cells; None if the file is missing or damaged."""
    try:
        table = list(csv.DictReader(read_text(file, max_bytes=_MAX_BYTES).splitlines(), strict=True))
        rows = [{name: cell for name, cell in row.items() if cell} for row in table]
        return rows if all(None not in row and row["stage"] and int(row["epoch"]) for row in rows) else None
    except (FileNotFoundError, csv.Error, UnicodeDecodeError, KeyError, ValueError, TypeError):
        return None


def _write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)  # stages may have different ones
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(file, text.getvalue())


def require_loggers(config: Config) -> None:
    """Check that the packages of all `train.loggers` are installed. Raises: ConfigError."""
    for name in config.train.loggers:
        if missing := [module for module in _LOGGER_PACKAGES[name] if find_spec(module) is None]:
            raise ConfigError(
                f"train.loggers names {name}, which is not installed ({', '.join(missing)}): {install_command(name)}."
            )


@contextmanager
def open_loggers(run: RunFolder, config: Config, stage: str, *, first_process: bool) -> Iterator[list[Logger]]:
    """Open the loggers of one stage. In processes other than the first, Lightning's loggers write nothing.

    Raises: RunError when a server can't be reached or refuses access.
    """
    _silence_libraries()
    loggers = list[Logger]()
    identity = f"{_run_id(run.logs_folder)}-{stage}" if config.train.loggers and first_process else ""
    try:
        for name in dict.fromkeys(config.train.loggers):
            stage_logger = _BUILDERS[name](run, stage, identity)
            loggers.append(stage_logger)
            stage_logger.log_hyperparams(_hyperparameters(config))  # the first call that needs the server
    except _server_errors(config) as error:
        reason = str(error).rstrip(".")
        raise RunError(
            f"train.loggers: {reason}. Check MLFLOW_TRACKING_URI and WANDB_MODE, or remove the logger from "
            f"{run.config_file}. Then continue with: mnsa train --resume {run.path}"
        ) from None
    try:
        yield loggers
    finally:
        if any(isinstance(opened, WandbLogger) for opened in loggers):
            import wandb

            wandb.finish()  # otherwise the next stage would continue this run


def _tensorboard(run: RunFolder, stage: str, _identity: str) -> Logger:
    return TensorBoardLogger(run.logs_folder, name="tensorboard", version=stage, default_hp_metric=False)


def _mlflow(run: RunFolder, stage: str, identity: str) -> Logger:
    address, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not address:
        folder = run.logs_folder.resolve()
        address, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "mlflow").as_uri()
    return MLFlowLogger(
        _PROJECT, f"{run.path.name}/{stage}", address, {_STAGE_TAG: identity}, artifact_location=artifacts,
        run_id=_find_mlflow_run(address, identity) if identity else None,
    )  # fmt: skip


def _find_mlflow_run(address: str, identity: str) -> str | None:
    """Find the MLflow run that this stage started before it was interrupted."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name(_PROJECT)
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.`{_STAGE_TAG}` = '{identity}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _wandb(run: RunFolder, stage: str, identity: str) -> Logger:
    folder = run.logs_folder.resolve()
    mode = os.environ.get("WANDB_MODE", "offline")
    return WandbLogger(
        f"{run.path.name}/{stage}", folder, identity, project=os.environ.get("WANDB_PROJECT", _PROJECT),
        group=run.path.name, mode=mode, settings={"console": "off", "silent": mode == "offline"},
    )  # fmt: skip


_BUILDERS: Mapping[str, Callable[[RunFolder, str, str], Logger]] = MappingProxyType(
    {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
)


def _hyperparameters(config: Config) -> dict[str, Any]:
    """Return the config as a tree, with stages by name instead of by number."""
    return {**config.model_dump(mode="json"), "stages": {s.name: s.model_dump(mode="json") for s in config.stages}}


def _run_id(folder: Path) -> str:
    """Return the random id of a run outside its folder. It is stored, so that it stays the same after a resume."""
    file = folder / "id"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        atomic_write_text(file, token_hex(8))
    return file.read_text(encoding="utf-8")


def _silence_libraries() -> None:
    """Turn off telemetry and messages of the libraries, unless the environment sets them."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


def _server_errors(config: Config) -> tuple[type[Exception], ...]:
    """Return the exceptions that the libraries raise when a server can't be reached or refuses access."""
    kinds = list[type[Exception]]([OSError])
    if "mlflow" in config.train.loggers:
        from mlflow.exceptions import MlflowException

        kinds.append(MlflowException)
    if "wandb" in config.train.loggers:
        from wandb.errors import Error

        kinds.append(Error)
    return tuple(kinds)
