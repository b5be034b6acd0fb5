"""`mnsa synth`: generate a synthetic data set."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import SeedOption, console


def synth(
    out: Annotated[Path, typer.Argument(help="New folder for the data set.")],
    cultivars: Annotated[int, typer.Option(min=1, help="Number of cultivars.")] = 12,
    per_cultivar: Annotated[int, typer.Option(min=1, help="Leaves per cultivar.")] = 20,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of the images, in pixels.")] = 256,
    seed: SeedOption = 1,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes. It does not change the images.")] = 2,
) -> None:
    """Generate a synthetic data set: drawn leaves with known veins, cultivars and traits.

    Example: `mnsa synth --cultivars 12 --per-cultivar 20 --size 256 --seed 1 leaves`
    """
    from mnsa.data.synthetic import synthesize

    manifest = synthesize(out, cultivars=cultivars, per_cultivar=per_cultivar, size_px=size, seed=seed, workers=workers)
    console.print(f"{len(manifest.rows)} leaves of {cultivars} cultivars in {out}")
