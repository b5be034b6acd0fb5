"""`mnsa import-checkpoint`: convert a checkpoint of the published MNSA or MGANet code."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnsa.cli.shared import OutOption, console


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="State dict (.pth) of the published MNSA or MGANet code.")],
    out: OutOption,
    attention: Annotated[
        Literal["none", "mean", "mean_max"] | None, typer.Option(help="Needed if the file has no attention weights.")
    ] = None,
) -> None:
    """Convert a checkpoint of the published MNSA or MGANet code into a run folder. No code of the file is executed.

    Example: `mnsa import-checkpoint best_model.pth --out runs/upstream`
    """
    from mnsa.workflows.import_checkpoint import import_checkpoint as convert_checkpoint

    run = convert_checkpoint(file, out, attention=attention)
    console.print(f"Imported: {run.model_folder}. Use it: mnsa predict {run.path} photos/ --out predictions")
