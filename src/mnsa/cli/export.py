"""`mnsa export`: export the network for ONNX Runtime, OpenVINO or torch."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import EngineName, OtherDataOption, PrecisionOption, RunArgument, console
from mnsa.engines.spec import require_engine, require_precision


def export(
    run: RunArgument,
    to: Annotated[EngineName, typer.Option("--to", help="Engine to export for.")],
    precision: PrecisionOption = "float32",
    out: Annotated[Path | None, typer.Option("--out", help="New folder. Default: a folder in RUN/exports.")] = None,
    data: OtherDataOption = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Minimum fraction of equal labels, and minimum mask IoU. Default: bfloat16 0.97, int8 0.9.",
        ),
    ] = None,
) -> None:
    """Export the network for ONNX Runtime, OpenVINO or torch, and compare the results. Needs the extra `export`.

    Example: `mnsa export runs/first --to onnx`, then `mnsa predict runs/first photos/ --engine onnx --out predictions`
    """
    require_precision(to, precision)
    require_engine(to, to="write")
    from mnsa.cli.tables import export_table
    from mnsa.workflows.export import export_run

    exported = export_run(run, to, precision=precision, out=out, dataset=data, agreement=agreement)
    comparison = exported.spec.comparison
    if not comparison["real_images"]:
        console.print("The data set has no readable validation images. The comparison uses random images.")
    console.print(export_table(comparison, f"{to}, {precision}, compared with the eager network"))
    console.print(f"Written to {exported.folder}")
