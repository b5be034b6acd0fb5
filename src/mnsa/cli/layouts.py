"""Verbs for the layouts of other tools: in, and out again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnsa.cli.app import MaskClassOption, OutOption, SeedOption, app, console
from mnsa.cli.check import DataSetArgument
from mnsa.cli.data import ValFractionOption, import_app, print_manifest, write_and_print_manifest


@import_app.command("coco")
def import_coco(
    source: Annotated[Path, typer.Argument(help="JSON file of annotations, or a folder of them, one per split.")],
    images: Annotated[Path, typer.Option(help="Folder where the file names of the annotations start.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """COCO: polygons and run lengths become masks; the images are copied beside them.

    Example: `mnsa import coco annotations/ --images images/ --out leaves`
    """
    from mnsa.data.formats.coco import import_coco as read

    print_manifest(read(source, out, images=images, val_fraction=val_fraction, seed=seed), out)


@import_app.command("yolo")
def import_yolo(
    source: Annotated[Path, typer.Argument(help="Folder with data.yaml, images and labels; or the data.yaml.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """YOLO segmentation: polygons become masks; the images are copied beside them.

    Example: `mnsa import yolo leaves-seg/ --out leaves`
    """
    from mnsa.data.formats.yolo import import_yolo as read

    print_manifest(read(source, out, val_fraction=val_fraction, seed=seed), out)


@import_app.command("nnunet")
def import_nnunet(
    source: Annotated[Path, typer.Argument(help="Folder such as Dataset101_leaves, with dataset.json and imagesTr.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """A data set of nnU-Net, version 2, of flat images; your files stay where they are.

    Example: `mnsa import nnunet Dataset101_leaves --out leaves`
    """
    from mnsa.data.formats.nnunet import import_nnunet as read

    print_manifest(read(source, out, val_fraction=val_fraction, seed=seed), out)


@import_app.command("masks")
def import_masks(
    images: Annotated[Path, typer.Argument(help="Folder of images, with or without train/val/test below it.")],
    masks: Annotated[Path, typer.Argument(help="Folder of masks, alike; NAME.png or NAME_mask.png.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """A folder of images and one of masks, without class names; your files stay where they are.

    Example: `mnsa import masks photos/ veins/ --mask-class vein --out leaves`
    """
    from mnsa.data.formats.mask_folders import import_masks as read

    manifest = read(images, masks, mask_classes=mask_class, val_fraction=val_fraction, seed=seed)
    write_and_print_manifest(manifest, out)


@app.command()
def convert(
    dataset: DataSetArgument,
    to: Annotated[Literal["coco", "yolo", "nnunet", "masks"], typer.Option(help="The layout.")],
    out: OutOption,
    masked_only: Annotated[bool, typer.Option("--masked-only", help="Leave out images without a mask.")] = False,
) -> None:
    """Write a data set in the layout of another tool; `mnsa import` reads it back without loss.

    Example: `mnsa convert leaves --to coco --out leaves-coco`
    """
    from mnsa.data.formats.convert import convert_dataset as write
    from mnsa.data.manifest import read_manifest

    count = write(read_manifest(dataset), to, out, masked_only=masked_only)
    console.print(f"{count} images as {to}: {out}")
