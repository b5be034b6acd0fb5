"""Verbs that make a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.app import MaskClassOption, OutOption, SeedOption, app, console

if TYPE_CHECKING:
    from mnsa.data.manifest import Manifest

import_app = typer.Typer(
    no_args_is_help=True, help="Make a data set from what you have; your files stay where they are."
)
app.add_typer(import_app, name="import")

ValFractionOption = Annotated[
    float, typer.Option(min=0.01, max=0.9, help="Share of train that becomes validation when the source has none.")
]


@import_app.command("folders")
def import_folders(
    source: Annotated[Path, typer.Argument(help="Folder of class folders, with or without train/val/test above them.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """Class folders, with or without a folder of masks.

    Example: `mnsa import folders photos/ --out leaves`
    """
    from mnsa.data.formats.folders import import_folders as read

    write_and_print_manifest(read(source, mask_classes=mask_class, val_fraction=val_fraction, seed=seed), out)


@import_app.command("csv")
def import_csv(
    source: Annotated[Path, typer.Argument(help="CSV file with one row per image; paths relative to it.")],
    out: OutOption,
    image: Annotated[str, typer.Option(help="Column of image paths.")] = "image",
    mask: Annotated[str | None, typer.Option(help="Column of mask paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of class names.")] = None,
    split: Annotated[str | None, typer.Option(help="Column of train/val/test.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of plants: their images stay in one split.")] = None,
    px_per_mm: Annotated[str | None, typer.Option(help="Column of scales, pixels per millimetre.")] = None,
    drop_label: Annotated[list[str] | None, typer.Option(help="Leave out the rows of this class; repeat it.")] = None,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """A table of images, masks and labels.

    Example: `mnsa import csv labels.csv --image file --mask mask --label cultivar --out leaves`
    """
    from mnsa.data.formats.csv_table import import_csv as read

    manifest = read(
        source, image=image, mask=mask, label=label, split=split, group=group, px_per_mm=px_per_mm,
        drop_labels=drop_label or [], mask_classes=mask_class, val_fraction=val_fraction, seed=seed,
    )  # fmt: skip
    write_and_print_manifest(manifest, out)


@import_app.command("mganet")
def import_mganet(
    source: Annotated[Path, typer.Argument(help="Folder of one set: soybean_2_1, soybean_1_1, btf or hainan_leaf.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """A set as MGANet and MNSA keep theirs: train, test, l2_mask and labels.pkl.

    Example: `mnsa import mganet data/soybean_2_1 --out soybean`
    """
    from mnsa.data.formats.mganet import import_mganet as read

    write_and_print_manifest(read(source, mask_classes=mask_class, val_fraction=val_fraction, seed=seed), out)


@import_app.command("ufg")
def import_ufg(
    source: Annotated[Path, typer.Argument(help="Folder of one set, with images and anno, or of SoyAgeing's stages.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """A set of the UFG benchmark: images, and lists of them in anno.

    Example: `mnsa import ufg data/COTTON --out cotton`
    """
    from mnsa.data.formats.ufg import import_ufg as read

    write_and_print_manifest(read(source, val_fraction=val_fraction, seed=seed), out)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="New folder for the data set.")],
    cultivars: Annotated[int, typer.Option(min=1, help="How many cultivars.")] = 12,
    per_cultivar: Annotated[int, typer.Option(min=1, help="Leaves of each.")] = 20,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Image side, in pixels.")] = 256,
    seed: SeedOption = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the leaves don't depend on it.")] = 2,
) -> None:
    """Draw leaves with known veins, cultivars and traits.

    Example: `mnsa synth --cultivars 12 --per-cultivar 20 --size 256 --seed 1 leaves`
    """
    from mnsa.data.synthetic import synthesize

    manifest = synthesize(out, cultivars=cultivars, per_cultivar=per_cultivar, size_px=size, seed=seed, workers=workers)
    console.print(f"{len(manifest.rows)} leaves of {cultivars} cultivars in {out}")


def write_and_print_manifest(manifest: "Manifest", out: Path) -> None:
    """Write a manifest whose files stay where they are, and say what it lists."""
    from mnsa.data.manifest import write_manifest

    write_manifest(manifest, out)
    print_manifest(manifest, out)


def print_manifest(manifest: "Manifest", out: Path) -> None:
    """Say what a data set lists."""
    console.print(
        f"{len(manifest.rows)} images, {len(manifest.classes)} classes, {len(manifest.mask_classes)} mask classes: "
        f"{out}"
    )
