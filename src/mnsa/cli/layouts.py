"""Verbs for the layouts of other tools: in, and out again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnsa.cli.app import MaskNames, Out, Seed, app, console
from mnsa.cli.check import DataSet
from mnsa.cli.data import ValidationShare, imports, report_manifest, write_and_report


@imports.command("coco")
def import_coco(
    source: Annotated[Path, typer.Argument(help="JSON file of annotations, or a folder of them, one per split.")],
    images: Annotated[Path, typer.Option(help="Folder where the file names of the annotations start.")],
    out: Out,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """COCO: polygons and run lengths become masks; the images are copied beside them.

    Example: `mnsa import coco annotations/ --images images/ --out leaves`
    """
    from mnsa.data.importers import import_coco as read

    report_manifest(read(source, out, images=images, validation_share=validation_share, seed=seed), out)


@imports.command("yolo")
def import_yolo(
    source: Annotated[Path, typer.Argument(help="Folder with data.yaml, images and labels; or the data.yaml.")],
    out: Out,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """YOLO segmentation: polygons become masks; the images are copied beside them.

    Example: `mnsa import yolo leaves-seg/ --out leaves`
    """
    from mnsa.data.importers import import_yolo as read

    report_manifest(read(source, out, validation_share=validation_share, seed=seed), out)


@imports.command("nnunet")
def import_nnunet(
    source: Annotated[Path, typer.Argument(help="Folder such as Dataset101_leaves, with dataset.json and imagesTr.")],
    out: Out,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """A data set of nnU-Net, version 2, of flat images; your files stay where they are.

    Example: `mnsa import nnunet Dataset101_leaves --out leaves`
    """
    from mnsa.data.importers import import_nnunet as read

    report_manifest(read(source, out, validation_share=validation_share, seed=seed), out)


@imports.command("masks")
def import_masks(
    images: Annotated[Path, typer.Argument(help="Folder of images, with or without train/val/test below it.")],
    masks: Annotated[Path, typer.Argument(help="Folder of masks, alike; NAME.png or NAME_mask.png.")],
    out: Out,
    mask_class: MaskNames = None,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """A folder of images and one of masks, without class names; your files stay where they are.

    Example: `mnsa import masks photos/ veins/ --mask-class vein --out leaves`
    """
    from mnsa.data.importers import import_masks as read

    manifest = read(images, masks, mask_classes=mask_class, validation_share=validation_share, seed=seed)
    write_and_report(manifest, out)


@app.command()
def convert(
    dataset: DataSet,
    to: Annotated[Literal["coco", "yolo", "nnunet", "masks"], typer.Option(help="The layout.")],
    out: Out,
    masked_only: Annotated[bool, typer.Option("--masked-only", help="Leave out images without a mask.")] = False,
) -> None:
    """Write a data set in the layout of another tool; `mnsa import` reads it back without loss.

    Example: `mnsa convert leaves --to coco --out leaves-coco`
    """
    from mnsa.data.manifest import read_manifest
    from mnsa.data.writers import convert as write

    count = write(read_manifest(dataset), to, out, masked_only=masked_only)
    console.print(f"{count} images as {to}: {out}")
