"""`mnsa search`: search for an architecture, or join a running search."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.shared import console, require_extra
from mnsa.config import load_config
from mnsa.errors import ConfigError, TrainingInterruptedError
from mnsa.signals import StopSignal, stop_signals

if TYPE_CHECKING:
    from mnsa.search.study import SearchStudy


def search(
    config: Annotated[Path | None, typer.Argument(help="TOML file. Its [search] section defines the space.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data set. The search never uses its test rows.")] = None,
    out: Annotated[Path | None, typer.Option(help="New study folder. Its name is the study's name.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials of all workers together.")] = None,
    join: Annotated[Path | None, typer.Option(help="Study folder to join as a worker, or to resume.")] = None,
    storage: Annotated[str | None, typer.Option(help="URL of the trial storage. Default: a file in --out.")] = None,
    select: Annotated[
        str | None, typer.Option(help="Rule: best (IoU), knee (of the Pareto front), or under=GMACS.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value. Repeat it.")] = None,
) -> None:
    """Search for the widths (and other parameters) of a network by validation IoU.

    Example: `mnsa search configs/search.toml --data leaves --out studies/leaves --trials 40`

    Storages: sqlite:///FILE, postgresql://..., mysql://..., journal:FILE (shared disk), grpc://HOST:PORT.
    """
    require_extra("optuna", "search")
    try:
        with stop_signals():
            _search(config, data, out, trials, join, storage, select, overrides)
    except StopSignal as stop:
        folder = join or out
        began = folder is not None and folder.exists()
        hint = f"Continue with: mnsa search --join {folder}" if began else "The search had not begun."
        raise TrainingInterruptedError(f"Interrupted ({stop}). {hint}", stop.exit_code) from None


def _search(
    config: Path | None, data: Path | None, out: Path | None, trials: int | None, join: Path | None,
    storage: str | None, select: str | None, overrides: list[str] | None,
) -> None:  # fmt: skip
    if join is not None:
        if config or data or out or overrides:
            raise ConfigError(
                "--join takes everything from the study's folder. Give it with --trials, --storage, --select."
            )
        from mnsa.search.study import join_study

        study = join_study(join, trials=trials, storage=storage)
    else:
        if config is None or data is None or out is None or trials is None:
            raise ConfigError(
                "Give a config, --data, --out and --trials: "
                "mnsa search configs/search.toml --data leaves --out study --trials 40."
            )
        whole = load_config(config, overrides or ())
        from mnsa.search.study import create_study

        study = create_study(whole, data, out, trials=trials, storage=storage, rule=select or "best")
    _run_study(study, select)


def _run_study(study: "SearchStudy", select: str | None) -> None:
    from mnsa.search.results import write_best
    from mnsa.search.worker import run_worker

    settings, folder = study.config.search, study.folder
    console.print(
        f"Study {study.name!r}: {study.space.num_points:,} possible networks, {study.queue.budget} trials "
        f"({settings.sampler}, pruner {settings.pruner}), storage {study.url}. "
        f"To add a worker or to resume: mnsa search --join {folder.path}"
    )
    run_worker(study)
    best = write_best(study, select)
    console.print(f"Selected trial {best.trial.number} ({best.study.selection_rule}): {folder.best_file}")
    console.print(
        f"Train it: mnsa train {folder.best_file} --data DATASET --out RUN. Report: mnsa report {folder.path}"
    )
