"""`mnsa synth`: generate a synthetic data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnsa.cli.shared import SeedOption, console


def synth(
    out: Annotated[Path, typer.Argument(help="New folder for the data set.")],
    kind: Annotated[
        Literal["cultivars", "varied"],
        typer.Option(help="cultivars: leaves of one species with labels. varied: leaves of every kind, for veins."),
    ] = "cultivars",
    cultivars: Annotated[int, typer.Option(min=1, help="Number of cultivars.")] = 12,
    per_cultivar: Annotated[int, typer.Option(min=1, help="Leaves per cultivar.")] = 20,
    images: Annotated[int, typer.Option(min=1, help="Number of images of the kind `varied`.")] = 1000,
    max_order: Annotated[
        int, typer.Option(min=1, max=3, help="Highest order of veins in the masks of `varied`; 3: and all finer ones.")
    ] = 3,
    class_per_order: Annotated[
        bool, typer.Option("--class-per-order", help="Mask classes vein1, vein2, vein3 of `varied` instead of vein.")
    ] = False,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of the images, in pixels.")] = 256,
    seed: SeedOption = 1,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes. It does not change the images.")] = 2,
) -> None:
    """Generate a synthetic data set: drawn leaves with known veins, cultivars and traits.

    Example: `mnsa synth --cultivars 12 --per-cultivar 20 --size 256 --seed 1 leaves`,
    or `mnsa synth --kind varied --images 4000 --size 384 drawn`
    """
    from mnsa.data import synthetic

    if kind == "varied":
        manifest = synthetic.synthesize_varied(
            out, images=images, size_px=size, seed=seed, workers=workers, max_order=max_order,
            class_per_order=class_per_order,
        )  # fmt: skip
        console.print(f"{len(manifest.rows)} varied leaves in {out}")
        return
    manifest = synthetic.synthesize(
        out, cultivars=cultivars, per_cultivar=per_cultivar, size_px=size, seed=seed, workers=workers
    )
    console.print(f"{len(manifest.rows)} leaves of {cultivars} cultivars in {out}")
