"""`mnsa veins`: find and measure the veins of leaves with the network that comes with mnsa."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.predict import finally_excel, predict_into
from mnsa.cli.shared import (
    BatchSizeOption,
    DecimalCommaOption,
    ExcelOption,
    JsonOption,
    MarkerOption,
    MaskThresholdOption,
    OutOption,
    PxPerMmOption,
    QuietOption,
    ReferenceAreaOption,
    RepairOption,
    ScaleOption,
    TtaOption,
    VerboseOption,
    parse_scale,
    set_output,
    split_scale,
)
from mnsa.weights import VEINS


def veins(
    images: Annotated[
        list[str], typer.Argument(help="Image files, folders, glob patterns or addresses (https://...).")
    ],
    out: OutOption,
    px_per_mm: PxPerMmOption = None,
    marker_mm: MarkerOption = 30.0,
    scale: ScaleOption = "auto",
    run: Annotated[
        Path, typer.Option("--run", help="Run folder of another network of veins. Default: the one of mnsa.")
    ] = Path(VEINS),
    reference_area: ReferenceAreaOption = "hull",
    tta: TtaOption = None,
    mask_threshold: MaskThresholdOption = None,
    repair: RepairOption = None,
    batch_size: BatchSizeOption = None,
    excel: ExcelOption = False,
    decimal_comma: DecimalCommaOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Find and measure the veins of any leaf, without training: traits as CSV, masks as PNG, overlays as JPEG.

    Columns `confidence` and `warning` say where veins can't be trusted. Exit code 3 if a file could not be read.

    Example: `mnsa veins photos/ --px-per-mm 23.6 --out veins`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    from mnsa.inference.predictor import load
    from mnsa.traits import TraitMeasurer, find_roles

    predictor = load(
        run, tta=tta or (), mask_threshold=mask_threshold, repair=repair, scale=parse_scale(scale or "auto")
    )
    number, photo_scale = split_scale(px_per_mm, marker_mm)
    measurer = TraitMeasurer(find_roles(predictor.mask_classes), px_per_mm=number, reference_area=reference_area)
    options = {"head": "network", "engine": "none"}
    with finally_excel(out, excel=excel, decimal_comma=decimal_comma):
        predict_into(out, predictor, images, measurer, photo_scale, batch_size=batch_size, options=options)
