"""The verb that finds a network: a study, begun or joined."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.app import app, console, require_extra
from mnsa.config import load_config
from mnsa.errors import ConfigError


@app.command()
def search(
    config: Annotated[Path | None, typer.Argument(help="TOML file; [search] says what is varied.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data set; its test rows stay out of the study.")] = None,
    out: Annotated[Path | None, typer.Option(help="New study folder, whose name the study bears.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials, by all workers together.")] = None,
    join: Annotated[Path | None, typer.Option(help="Work on this study, or resume it, from any process.")] = None,
    storage: Annotated[str | None, typer.Option(help="URL of the trials' storage; without: a file in --out.")] = None,
    select: Annotated[str | None, typer.Option(help="best IoU, knee of the Pareto front, or under=GMACS.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeat it.")] = None,
) -> None:
    """Find the widths (and more) of a network, by its IoU on validation.

    Example: `mnsa search configs/search.toml --data leaves --out studies/leaves --trials 40`

    Storages: sqlite:///FILE, postgresql://..., mysql://..., journal:FILE (a shared disk), grpc://HOST:PORT.
    """
    require_extra("optuna", "search")
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
    from mnsa.search.results import write_best
    from mnsa.search.worker import run_worker

    settings = study.config.search
    console.print(
        f"Study {study.name!r}: {study.space.num_points:,} networks to choose from, {study.queue.budget} trials "
        f"({settings.sampler}, pruner {settings.pruner}), kept in {study.url}. "
        f"More workers, or after an interruption: mnsa search --join {study.folder.path}"
    )
    run_worker(study)
    found = write_best(study, select)
    path = study.folder.path
    console.print(f"Selected trial {found.trial.number} ({found.study.selection_rule}): {study.folder.best_file}")
    console.print(
        f"Train it: mnsa train {study.folder.best_file} --data DATASET --out RUN. See all: mnsa report {path}"
    )
