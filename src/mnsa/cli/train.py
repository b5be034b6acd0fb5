"""`mnsa train`: train a network, or continue an interrupted run."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import console
from mnsa.config import load_config
from mnsa.errors import ConfigError


def train(
    config: Annotated[Path | None, typer.Argument(help="TOML file. configs/ holds ready ones.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data set: a folder with manifest.csv and dataset.toml.")] = None,
    out: Annotated[Path | None, typer.Option(help="New run folder.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value. Repeat it.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of processes, one GPU each if available.")] = 1,
    resume: Annotated[Path | None, typer.Option(help="Continue this interrupted run.")] = None,
) -> None:
    """Train a network, or continue a run.

    Example: `mnsa train configs/demo.toml --data leaves --out runs/first --set train.seed=2`
    """
    if resume is not None:
        if config or out or overrides:
            raise ConfigError(
                "--resume takes everything from the run folder. Give it alone, or with --devices, "
                "and with --data if the data set has moved."
            )
        from mnsa.training import fit
        from mnsa.training.optimizers import disable_malloc_trim

        disable_malloc_trim()
        run = fit.resume(resume, dataset=data, devices=devices)
    else:
        if config is None or data is None or out is None:
            raise ConfigError("Give a config, --data and --out: mnsa train configs/demo.toml --data leaves --out run.")
        settings = load_config(config, overrides or ())
        from mnsa.training import fit
        from mnsa.training.optimizers import disable_malloc_trim

        disable_malloc_trim()
        run = fit.train(settings, data, out, devices=devices)
    from mnsa.workflows.fit_postprocessing import fit_after_training

    fit_after_training(run)
    if fit.is_rank_zero():
        console.print(f"Trained: {run.model_folder}. Evaluate it: mnsa evaluate {run.path}")
