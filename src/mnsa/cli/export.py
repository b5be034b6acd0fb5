"""The verb that makes files for other engines."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.app import EngineOption, PrecisionOption, RunArgument, app, console
from mnsa.engines.spec import require_engine, require_precision


@app.command()
def export(
    run: RunArgument,
    to: Annotated[EngineOption, typer.Option("--to", help="What is to run it.")],
    precision: PrecisionOption = "float32",
    out: Annotated[Path | None, typer.Option("--out", help="New folder; usually one in RUN/exports.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Another data set than the run's own.")] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Least share of equal labels, and mask IoU, for bfloat16 (0.97) and int8 (0.9)."
        ),
    ] = None,
) -> None:
    """Write the network for ONNX Runtime, OpenVINO or torch alone, and compare it. Needs the extra `export`.

    Example: `mnsa export runs/first --to onnx`, then `mnsa predict runs/first photos/ --engine onnx --out answers`
    """
    require_precision(to, precision)
    require_engine(to, to="write")
    from mnsa.cli.tables import export_table
    from mnsa.workflows.export import export_run

    exported = export_run(run, to, precision=precision, out=out, dataset=data, agreement=agreement)
    found = exported.card.comparison
    if not found["real_images"]:
        console.print("The data set has no validation image at hand: compared on random images alone.")
    console.print(export_table(found, f"{to}, {precision}, beside the eager network"))
    console.print(f"Written to {exported.folder}")
