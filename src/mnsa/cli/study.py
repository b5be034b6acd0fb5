"""`mnsa study`: a grid of data sets, configs and seeds."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import console
from mnsa.errors import ConfigError


def study(
    file: Annotated[Path, typer.Argument(help="TOML file with [datasets], [configs.NAME] and seeds.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs. The same command continues it.")],
    data: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER: where a data set of the file is. Repeat it.")
    ] = None,
) -> None:
    """Train and evaluate every config on every data set with every seed, and make one table.

    Finished runs are kept. Several processes can work on one folder: start the command again.

    Example: `mnsa study benchmarks/studies/start.toml --data coffee=coffee --out studies/start`
    """
    datasets = dict(_parse_dataset(text) for text in data or ())
    from mnsa.workflows.config_study import markdown, run_study

    console.print(markdown(run_study(file, out, datasets=datasets)), highlight=False)
    console.print(f"Written to {out / 'table.md'}, table.csv and table.tex.")


def _parse_dataset(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f"--data {text!r} is not of the form NAME=FOLDER.")
    return name, Path(folder)
