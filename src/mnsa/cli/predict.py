"""`mnsa predict`: predict classes and masks of image files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.shared import (
    BatchSizeOption,
    DecimalCommaOption,
    EngineName,
    ExcelOption,
    HeadOption,
    JsonOption,
    LeafOption,
    LesionOption,
    MarkerOption,
    MaskThresholdOption,
    OutOption,
    PrecisionOption,
    PxPerMmOption,
    QuietOption,
    ReferenceAreaOption,
    RepairOption,
    RunArgument,
    ScaleOption,
    TtaOption,
    VeinOption,
    VerboseOption,
    console,
    image_progress,
    offer_dpi,
    parse_scale,
    print_errors,
    print_excel_copy,
    print_result,
    print_warning,
    set_output,
    split_scale,
)
from mnsa.errors import ConfigError

if TYPE_CHECKING:
    from mnsa.batch.predict_files import PredictionSummary
    from mnsa.data.photo_scale import PhotoScale
    from mnsa.inference.predictor import Predictor
    from mnsa.traits import TraitMeasurer


def predict(
    run: RunArgument,
    images: Annotated[
        list[str], typer.Argument(help="Image files, folders, glob patterns or addresses (https://...).")
    ],
    out: OutOption,
    head: HeadOption = "network",
    traits: Annotated[bool, typer.Option("--traits", help="Measure the masks, like `mnsa traits`.")] = False,
    px_per_mm: PxPerMmOption = None,
    marker_mm: MarkerOption = 30.0,
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
    reference_area: ReferenceAreaOption = "hull",
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw attention and Grad-CAM of the predicted class over each image.")
    ] = False,
    engine: Annotated[
        EngineName | None, typer.Option(help="Run the network that `mnsa export` wrote. Default: eager PyTorch.")
    ] = None,
    precision: PrecisionOption = "float32",
    tta: TtaOption = None,
    mask_threshold: MaskThresholdOption = None,
    repair: RepairOption = None,
    scale: ScaleOption = None,
    batch_size: BatchSizeOption = None,
    excel: ExcelOption = False,
    decimal_comma: DecimalCommaOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Predict image files: classes as CSV, masks as PNG, overlays as JPEG. Exit code 3 if a file could not be read.

    The same command continues an interrupted prediction, and predicts photos that were added. `torchrun` splits the
    images among processes and machines.

    Example: `mnsa predict runs/first photos/ --traits --px-per-mm 20 --out predictions`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    if not traits and (px_per_mm is not None or vein or leaf or lesion or reference_area != "hull"):
        raise ConfigError(
            "--px-per-mm, --vein, --leaf, --lesion and --reference-area are options of trait measurement. Add --traits."
        )
    if engine is None and precision != "float32":
        raise ConfigError("--precision is an option of exported networks. Add --engine.")
    from mnsa.inference.predictor import load
    from mnsa.traits import TraitMeasurer, find_roles

    predictor = load(
        run, head=head, engine=engine, precision=precision, explain=explain, tta=tta or (),
        mask_threshold=mask_threshold, repair=repair, scale=None if scale is None else parse_scale(scale),
    )  # fmt: skip
    measurer, photo_scale = None, None
    if traits:
        number, photo_scale = split_scale(px_per_mm, marker_mm)
        roles = find_roles(predictor.mask_classes, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
        measurer = TraitMeasurer(roles, px_per_mm=number, reference_area=reference_area)
    options = {"head": head, "engine": f"{engine} {precision}" if engine else "none"}
    with finally_excel(out, excel=excel, decimal_comma=decimal_comma):
        predict_into(out, predictor, images, measurer, photo_scale, batch_size=batch_size, options=options)


@contextmanager
def finally_excel(out: Path, *, excel: bool, decimal_comma: bool) -> Iterator[None]:
    """Write the copy for Excel after a prediction, also when some files could not be read."""
    try:
        yield
    except typer.Exit:
        print_excel_copy(out / "predictions.csv", excel=excel, decimal_comma=decimal_comma)
        raise
    print_excel_copy(out / "predictions.csv", excel=excel, decimal_comma=decimal_comma)


def predict_into(
    out: Path, predictor: "Predictor", images: list[str], measurer: "TraitMeasurer | None",
    photo_scale: "PhotoScale | None", *, batch_size: int | None, options: Mapping[str, str],
) -> None:  # fmt: skip
    """Predict image files into a folder, with progress and a summary. Exit code 3 if a file could not be read."""
    from mnsa.batch.batching import local_device, shard_from_env
    from mnsa.batch.predict_files import predict_files
    from mnsa.batch.prediction_folder import is_prediction_folder
    from mnsa.data.paths import PassedOver, find_sources

    shard = shard_from_env()
    predictor.network.to(local_device())
    passed = PassedOver()
    found = find_sources(images, exclude=out if is_prediction_folder(out) else None, passed=passed)
    with image_progress() if shard.rank == 0 else nullcontext() as progress:
        summary = predict_files(
            predictor, found, out, measurer=measurer, photo_scale=photo_scale, batch_size=batch_size, shard=shard,
            options=options, progress=progress,
        )  # fmt: skip
    _print_summary(summary, out)
    values = {one.name: getattr(summary, one.name) for one in fields(summary)}
    print_result({**values, "errors": dict(summary.errors), "passed_over": passed.describe()})
    if measurer is not None and measurer.px_per_mm is None:
        offer_dpi(found[0])
    if text := passed.describe():
        console.print(text)
    if not summary.missing and summary.failed:
        raise typer.Exit(3)


def _print_summary(summary: "PredictionSummary", out: Path) -> None:
    if summary.missing:
        console.print(
            f"{summary.new} predicted. Other processes still work on {summary.missing} images and then write {out}."
        )
        return
    earlier = "" if summary.new else "Already complete, nothing to do: "
    now = f" ({summary.new} now)" if 0 < summary.new < summary.done + summary.failed else ""
    console.print(f"{earlier}{summary.done} predicted{now}, {summary.failed} failed: {summary.table}")
    print_errors(summary.errors, summary.failed, summary.table)
    for warning, count in summary.warnings.items():
        print_warning(f"Warning for {count} of {summary.done}: {warning}")
    if summary.sheet:
        console.print(f"Contact sheet: {summary.sheet}")
