"""TensorBoard, MLflow and Weights & Biases beside metrics.csv, for who asks for them in `train.loggers`.

Each stage is a run there, named RUN/STAGE, with the whole config as its hyper-parameters. All of it stays in the run
folder's logs/ unless MLFLOW_TRACKING_URI or WANDB_MODE says otherwise. A resumed stage goes on in the run it had.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from mnsa.config import Config
from mnsa.errors import ConfigError, RunError
from mnsa.run_folder import RunFolder, write_text

_MODULES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
_PROJECT = "mnsa"  # MLflow's experiment, W&B's project
_STAGE_TAG = "mnsa.stage"  # what a resumed stage finds its MLflow run by


def require_loggers(config: Config) -> None:
    """Look whether what `train.loggers` asks for is installed. Raises: ConfigError."""
    for name in config.train.loggers:
        if missing := [module for module in _MODULES[name] if find_spec(module) is None]:
            raise ConfigError(
                f"train.loggers asks for {name}, which is missing ({', '.join(missing)}): pip install 'mnsa[{name}]'."
            )


@contextmanager
def open_loggers(run: RunFolder, config: Config, stage: str, *, first_process: bool) -> Iterator[list[Logger]]:
    """What Lightning logs one stage to; other processes than the first get loggers that write nothing.

    Raises: RunError when a server can't be reached or refuses us.
    """
    _keep_quiet()
    loggers = list[Logger]()
    identity = f"{_run_id(run.logs_folder)}-{stage}" if config.train.loggers and first_process else ""
    try:
        for name in dict.fromkeys(config.train.loggers):
            logger = _MAKERS[name](run, stage, identity)
            loggers.append(logger)
            logger.log_hyperparams(_parameters(config))  # the first call that needs the server
    except _refusals(config) as error:
        said = str(error).rstrip(".")
        raise RunError(
            f"train.loggers: {said}. Look at MLFLOW_TRACKING_URI and WANDB_MODE, or take the logger out "
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
        run_id=_earlier_mlflow_run(address, identity) if identity else None,
    )  # fmt: skip


def _earlier_mlflow_run(address: str, identity: str) -> str | None:
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


_MAKERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def _parameters(config: Config) -> dict[str, Any]:
    """The config as a tree whose stages have names instead of numbers."""
    return {**config.model_dump(mode="json"), "stages": {s.name: s.model_dump(mode="json") for s in config.stages}}


def _run_id(folder: Path) -> str:
    """What the run is known by outside its folder: random, and kept, so that it stays the same when it is resumed."""
    file = folder / "id"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        write_text(file, token_hex(8))
    return file.read_text(encoding="utf-8")


def _keep_quiet() -> None:
    """Let the libraries say less here, and nothing to their makers, unless the environment says otherwise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def _refusals(config: Config) -> tuple[type[Exception], ...]:
    """What the libraries raise when a server isn't there or lets nobody in."""
    kinds = list[type[Exception]]([OSError])
    if "mlflow" in config.train.loggers:
        from mlflow.exceptions import MlflowException

        kinds.append(MlflowException)
    if "wandb" in config.train.loggers:
        from wandb.errors import Error

        kinds.append(Error)
    return tuple(kinds)
