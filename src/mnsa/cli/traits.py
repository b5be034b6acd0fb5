"""`mnsa traits`: measure traits of mask files."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.shared import (
    DecimalCommaOption,
    ExcelOption,
    JsonOption,
    LeafOption,
    LesionOption,
    MaskClassOption,
    PxPerMmOption,
    QuietOption,
    ReferenceAreaOption,
    VeinOption,
    VerboseOption,
    console,
    image_progress,
    print_errors,
    print_excel_copy,
    print_result,
    set_output,
    split_scale,
)
from mnsa.errors import ConfigError


def traits(
    masks: Annotated[list[str], typer.Argument(help="Mask files, folders or glob patterns.")],
    out: Annotated[Path, typer.Option(help="New CSV file. An existing file is never overwritten.")],
    px_per_mm: PxPerMmOption = None,
    mask_class: MaskClassOption = None,
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
    leaf_masks: Annotated[
        Path | None, typer.Option(help="Folder of leaf masks (0 and 1 or 255) with the same file names.")
    ] = None,
    reference_area: ReferenceAreaOption = "hull",
    excel: ExcelOption = False,
    decimal_comma: DecimalCommaOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Measure leaf, veins, areoles and lesions in masks: a CSV row per mask. Exit code 3 if a file could not be read.

    Masks of `mnsa predict` hold the names of their classes. Other masks without --mask-class, of 0 and 1 or 255, show
    veins.

    Example: `mnsa traits predictions/masks --px-per-mm 20 --out traits.csv`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    from mnsa.data.paths import MASK_SUFFIXES, PassedOver, find_images
    from mnsa.traits import TraitMeasurer, find_roles
    from mnsa.traits.measurer import DEFAULT_MASK_CLASS
    from mnsa.workflows.measure_traits import find_mask_classes, measure_files

    found = find_images(masks, passed=(passed := PassedOver()), suffixes=MASK_SUFFIXES)
    held = () if mask_class else find_mask_classes(found)
    number, photo_scale = split_scale(px_per_mm, marker_mm=0)
    if photo_scale is not None and photo_scale.kind == "marker":
        raise ConfigError("Masks show no marker. Give --px-per-mm a number, dpi or a CSV file, or use `mnsa predict`.")
    names = mask_class or held or (DEFAULT_MASK_CLASS,)
    roles = find_roles(names, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
    if leaf_masks is not None and roles.leaf:
        raise ConfigError("The masks already have a leaf class. Leave out --leaf-masks, or don't name a leaf class.")
    measurer = TraitMeasurer(
        roles, px_per_mm=number, reference_area=reference_area, separate_leaf_mask=leaf_masks is not None
    )
    with image_progress() as show:
        measured = measure_files(
            measurer, found, out, mask_classes=len(names), names=held, leaf_masks=leaf_masks, photo_scale=photo_scale,
            progress=lambda done, total: show(done, total, done),
        )  # fmt: skip
    console.print(f"{measured.done} measured, {measured.failed} failed: {out}")
    print_errors(measured.errors, measured.failed, out)
    counts = {"done": measured.done, "failed": measured.failed}
    print_result({"table": out, **counts, "errors": dict(measured.errors), "passed_over": passed.describe()})
    if measured.mostly_veins:
        console.print(
            f"{len(measured.mostly_veins)} masks are veins in more than half of their pixels, such as "
            f"{measured.mostly_veins[0]}: white may mean background. If so, invert them.",
            style="yellow",
        )
    print_excel_copy(out, excel=excel, decimal_comma=decimal_comma)
    if text := passed.describe():
        console.print(text)
    if measured.failed:
        raise typer.Exit(3)
