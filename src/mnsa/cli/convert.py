"""`mnsa convert`: write a data set in the format of another tool."""

from typing import Annotated, Literal

import typer

from mnsa.cli.shared import DatasetArgument, OutOption, console


def convert(
    dataset: DatasetArgument,
    to: Annotated[Literal["coco", "yolo", "nnunet", "masks"], typer.Option(help="Format to write.")],
    out: OutOption,
    masked_only: Annotated[bool, typer.Option("--masked-only", help="Leave out images without a mask.")] = False,
) -> None:
    """Convert a data set to the format of another tool. `mnsa import` reads it back without loss.

    Example: `mnsa convert leaves --to coco --out leaves-coco`
    """
    from mnsa.data.formats.convert import convert_dataset
    from mnsa.data.manifest import read_manifest

    count = convert_dataset(read_manifest(dataset), to, out, masked_only=masked_only)
    console.print(f"{count} images as {to}: {out}")
