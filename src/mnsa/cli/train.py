"""`mnsa train`: train a network, or continue an interrupted run."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

import typer

from mnsa.cli.plan import BudgetOption, TasksOption, make_config
from mnsa.cli.shared import JsonLinesOption, QuietOption, VerboseOption, console, set_output
from mnsa.config import load_config, select_tasks
from mnsa.errors import ConfigError, MnsaError, RunError, TrainingInterruptedError
from mnsa.signals import StopSignal, environment_number, is_rank_zero, stop_signals

if TYPE_CHECKING:
    from mnsa.run_folder import RunFolder

logger = logging.getLogger(__name__)


def train(
    config: Annotated[
        Path | None,
        typer.Argument(help="TOML file, or the name of a ready one, such as small. Without it: mnsa plan makes one."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data set: a folder with manifest.csv and dataset.toml.")] = None,
    out: Annotated[Path | None, typer.Option(help="New run folder.")] = None,
    budget: BudgetOption = None,
    tasks: TasksOption = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value. Repeat it.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="With --resume: epochs of the last stage in all, to go on with a finished run."),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of processes, one GPU each if available.")] = 1,
    resume: Annotated[Path | None, typer.Option(help="Continue this interrupted run.")] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonLinesOption = False,
) -> None:
    """Train a network, or continue a run.

    Example: `mnsa train --data leaves --out runs/first`, or `mnsa train small --data leaves --out runs/first`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    try:
        with stop_signals():
            progress = False if quiet or json else None
            _train(config, data, out, budget, tasks, overrides or [], epochs, devices, resume, progress)
    except StopSignal as stop:
        folder = resume or out
        began = folder is not None and folder.exists()
        hint = f"Continue with: mnsa train --resume {folder}" if began else "Training had not begun."
        _say(TrainingInterruptedError(f"Interrupted ({stop}). {hint}", stop.exit_code))
    except TrainingInterruptedError as error:
        _say(error)


def _say(error: TrainingInterruptedError) -> Never:
    """Raise the error, of which the first of several processes speaks."""
    if is_rank_zero():
        raise error from None
    raise SystemExit(error.exit_code)


def _train(
    config: Path | None, data: Path | None, out: Path | None, budget: BudgetOption, tasks: TasksOption,
    overrides: list[str], epochs: int | None, devices: int, resume: Path | None, progress: bool | None,
) -> None:  # fmt: skip
    before = _weights_digest(resume)
    if resume is not None:
        if config or out or overrides or budget or tasks:
            raise ConfigError(
                "--resume takes everything from the run folder. Give it alone, or with --devices, with --epochs for "
                "more epochs, and with --data if the data set has moved."
            )
        logger.info(f"Continuing {resume}: loading torch, checking images and masks")
        from mnsa.training import fit
        from mnsa.training.optimizers import disable_malloc_trim

        disable_malloc_trim()
        run = fit.resume(resume, dataset=data, epochs=epochs, devices=devices, progress=progress)
    else:
        if epochs is not None:
            raise ConfigError("--epochs goes with --resume. For a new run: --set stages.STAGE.epochs=N, or --budget.")
        if data is None or out is None:
            raise ConfigError("Give --data and --out: mnsa train --data leaves --out run.")
        if config is not None and budget:
            raise ConfigError("--budget is for training without a config. Change the epochs of the config with --set.")
        logger.info(f"Training on {data}: loading torch, checking images and masks")
        if config is None:
            _require_one_process(devices)  # each would make its own plan
            if out.exists():
                raise RunError(f"{out} exists already. Choose another folder, or continue it: --resume {out}.")
            settings = make_config(data, budget, tasks, overrides)
        else:
            settings = select_tasks(load_config(config, overrides), tasks)
        from mnsa.training import fit
        from mnsa.training.optimizers import disable_malloc_trim

        disable_malloc_trim()
        run = fit.train(settings, data, out, devices=devices, progress=progress)
    if is_rank_zero():
        _finish(run, is_new=_weights_digest(run.path) != before)


def _finish(run: "RunFolder", *, is_new: bool) -> None:
    """Choose how masks are made, and say what comes next. is_new: whether this command has trained the network."""
    from mnsa.inference.postprocessing_file import POSTPROCESSING_FILE
    from mnsa.training.session import file_errors
    from mnsa.workflows.fit_postprocessing import fit_after_training

    if is_new or not (run.path / POSTPROCESSING_FILE).is_file():
        with file_errors(run.path):
            fit_after_training(run)
    if is_new:
        console.print(f"Trained: {run.model_folder}. Evaluate it: mnsa evaluate {run.path}")
    else:
        console.print(f"{run.path} was finished already. To train on: mnsa train --resume {run.path} --epochs N")


def _weights_digest(run: Path | None) -> str | None:
    """The SHA-256 of a run's network; None while it has none."""
    from mnsa.run_folder import weights_digest

    try:
        return None if run is None else weights_digest(run)
    except (MnsaError, OSError):
        return None


def _require_one_process(devices: int) -> None:
    if devices > 1 or environment_number("WORLD_SIZE", default=1) > 1:
        raise ConfigError(
            "Several processes need a config. Make one, and train with it: mnsa plan DATA --out plan.toml, then "
            "mnsa train plan.toml."
        )
