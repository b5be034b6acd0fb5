"""Loggers: metrics.csv always; TensorBoard, MLflow and Weights & Biases where `train.loggers` names them.

Each stage is a run there, named RUN/STAGE, with the whole config as its hyper-parameters. All files stay in the run
folder's logs/ unless MLFLOW_TRACKING_URI or WANDB_MODE says otherwise. A resumed stage continues its own run.
"""

import csv
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from mnsa.config import Config
from mnsa.errors import ConfigError, RunError
from mnsa.io import atomic_write_text
from mnsa.run_folder import RunFolder


class CSVMetricsLogger(Callback):
    """Appends each epoch's scores to a CSV file and prints them; an epoch that is run again is replaced."""

    def __init__(self, file: Path, stage: str) -> None:
        self.file = file
        self.stage = stage

    def on_train_epoch_end(self, trainer: lightning.Trainer, _module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = {"stage": self.stage, "epoch": str(trainer.current_epoch + 1)}
        row |= {name: f"{float(value):.5g}" for name, value in sorted(trainer.callback_metrics.items())}
        atomic_write_text(self.file, _to_csv([*self._earlier_rows(trainer.current_epoch), row]))
        scores = "  ".join(f"{name} {row[name]}" for name in row if name == "loss" or name.startswith("val_"))
        print(f"{self.stage} {row['epoch']}/{trainer.max_epochs}  {scores}", flush=True)  # noqa: T201

    def _earlier_rows(self, epoch: int) -> list[dict[str, str]]:
        if not self.file.exists():
            return []
        with self.file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [row for row in rows if row["stage"] != self.stage or int(row["epoch"]) <= epoch]


def _to_csv(rows: list[dict[str, str]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)


_LOGGER_PACKAGES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}

_PROJECT = "mnsa"  # MLflow's experiment, W&B's project

_STAGE_TAG = "mnsa.stage"  # what a resumed stage finds its MLflow run by


def require_loggers(config: Config) -> None:
    """Look whether what `train.loggers` asks for is installed. Raises: ConfigError."""
    for name in config.train.loggers:
        if missing := [module for module in _LOGGER_PACKAGES[name] if find_spec(module) is None]:
            raise ConfigError(
                f"train.loggers asks for {name}, which is missing ({', '.join(missing)}): pip install 'mnsa[{name}]'."
            )


@contextmanager
def open_loggers(run: RunFolder, config: Config, stage: str, *, first_process: bool) -> Iterator[list[Logger]]:
    """What Lightning logs one stage to; other processes than the first get loggers that write nothing.

    Raises: RunError when a server can't be reached or refuses us.
    """
    _silence_libraries()
    loggers = list[Logger]()
    identity = f"{_run_id(run.logs_folder)}-{stage}" if config.train.loggers and first_process else ""
    try:
        for name in dict.fromkeys(config.train.loggers):
            logger = _BUILDERS[name](run, stage, identity)
            loggers.append(logger)
            logger.log_hyperparams(_hyperparameters(config))  # the first call that needs the server
    except _server_errors(config) as error:
        reason = str(error).rstrip(".")
        raise RunError(
            f"train.loggers: {reason}. Look at MLFLOW_TRACKING_URI and WANDB_MODE, or take the logger out "
            f"of {run.config_file}; then continue with: mnsa train --resume {run.path}"
        ) from None
    try:
        yield loggers
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish()  # or the next stage would go on in this one's run


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
    """The MLflow run that this stage began before it was interrupted."""
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


_BUILDERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def _hyperparameters(config: Config) -> dict[str, Any]:
    """The config as a tree whose stages have names instead of numbers."""
    return {**config.model_dump(mode="json"), "stages": {s.name: s.model_dump(mode="json") for s in config.stages}}


def _run_id(folder: Path) -> str:
    """What the run is known by outside its folder: random, and kept, so that it stays the same when it is resumed."""
    file = folder / "id"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        atomic_write_text(file, token_hex(8))
    return file.read_text(encoding="utf-8")


def _silence_libraries() -> None:
    """Let the libraries say less here, and nothing to their makers, unless the environment says otherwise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def _server_errors(config: Config) -> tuple[type[Exception], ...]:
    """What the libraries raise when a server isn't there or lets nobody in."""
    kinds = list[type[Exception]]([OSError])
    if "mlflow" in config.train.loggers:
        from mlflow.exceptions import MlflowException

        kinds.append(MlflowException)
    if "wandb" in config.train.loggers:
        from wandb.errors import Error

        kinds.append(Error)
    return tuple(kinds)
