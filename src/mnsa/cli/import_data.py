"""`mnsa import`: import data sets of other formats. One command per format."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.shared import MaskClassOption, OutOption, SeedOption, console

if TYPE_CHECKING:
    from mnsa.data.manifest import Manifest

_MAX_CLASSES, _MAX_VALUES = 8, 12  # that are printed

_SAMPLED_MASKS = 12  # whose values are printed

import_app = typer.Typer(
    no_args_is_help=True, help="Import a data set: image folders, tables, COCO, YOLO, nnU-Net, ... Files are not moved."
)

ValFractionOption = Annotated[
    float,
    typer.Option(min=0.01, max=0.9, help="Fraction of train that becomes val if the source has no validation split."),
]

TestFractionOption = Annotated[
    float | None,
    typer.Option(min=0.01, max=0.9, help="Fraction of the images that becomes test if the source has no test split."),
]


@import_app.command("folders")
def import_folders(
    source: Annotated[Path, typer.Argument(help="Folder with a folder per class, with or without train/val/test.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import class folders, with or without a folder of masks.

    Example: `mnsa import folders photos/ --out leaves`
    """
    from mnsa.data.formats.folders import import_folders as read

    _write_manifest(
        read(source, mask_classes=mask_class, val_fraction=val_fraction, seed=seed), out, test_fraction, seed
    )


@import_app.command("csv")
def import_csv(
    source: Annotated[Path, typer.Argument(help="CSV file with a row per image. Paths are relative to it.")],
    out: OutOption,
    image: Annotated[str, typer.Option(help="Column of image paths.")] = "image",
    mask: Annotated[str | None, typer.Option(help="Column of mask paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of class names.")] = None,
    split: Annotated[str | None, typer.Option(help="Column of train/val/test.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of groups, such as plants. A group stays in one split.")
    ] = None,
    px_per_mm: Annotated[str | None, typer.Option(help="Column of scales, in pixels per millimeter.")] = None,
    drop_label: Annotated[list[str] | None, typer.Option(help="Leave out rows of this class. Repeat it.")] = None,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import a table of images, masks and labels.

    Example: `mnsa import csv labels.csv --image file --mask mask --label cultivar --out leaves`
    """
    from mnsa.data.formats.csv_table import import_csv as read

    manifest = read(
        source, image=image, mask=mask, label=label, split=split, group=group, px_per_mm=px_per_mm,
        drop_labels=drop_label or [], mask_classes=mask_class, val_fraction=val_fraction, seed=seed,
    )  # fmt: skip
    _write_manifest(manifest, out, test_fraction, seed)


@import_app.command("masks")
def import_masks(
    images: Annotated[Path, typer.Argument(help="Folder of images, with or without train/val/test.")],
    masks: Annotated[Path, typer.Argument(help="Folder of masks with the same layout: NAME.png or NAME_mask.png.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import a folder of images and a folder of masks, without class labels.

    Example: `mnsa import masks photos/ veins/ --mask-class vein --out leaves`
    """
    from mnsa.data.formats.mask_folders import import_masks as read

    _write_manifest(
        read(images, masks, mask_classes=mask_class, val_fraction=val_fraction, seed=seed), out, test_fraction, seed
    )


@import_app.command("zip")
def import_zip(
    source: Annotated[Path, typer.Argument(help="Zip file of class folders, with or without train/val/test.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    max_gigabytes: Annotated[float, typer.Option(min=0.001, help="Maximum unpacked size.")] = 20,
    max_files: Annotated[int, typer.Option(min=1, help="Maximum number of files.")] = 200_000,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import class folders from a zip file. It is unpacked into the new data set; unsafe archives are refused.

    Example: `mnsa import zip photos.zip --out leaves`
    """
    from mnsa.data.formats.zip_archive import ZipLimits
    from mnsa.data.formats.zip_archive import import_zip as read

    limits = ZipLimits(total_bytes=int(max_gigabytes * 10**9), files=max_files)
    manifest = read(source, out, limits=limits, mask_classes=mask_class, val_fraction=val_fraction, seed=seed)
    _print_manifest(manifest, out, test_fraction, seed)


@import_app.command("coco")
def import_coco(
    source: Annotated[Path, typer.Argument(help="JSON file of annotations, or a folder with one file per split.")],
    images: Annotated[Path, typer.Option(help="Folder that the file names of the annotations are relative to.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import COCO annotations: polygons and RLE become masks. The images are copied.

    Example: `mnsa import coco annotations/ --images images/ --out leaves`
    """
    from mnsa.data.formats.coco import import_coco as read

    manifest = read(source, out, images=images, val_fraction=val_fraction, seed=seed)
    _print_manifest(manifest, out, test_fraction, seed)


@import_app.command("yolo")
def import_yolo(
    source: Annotated[Path, typer.Argument(help="Folder with data.yaml, images and labels, or the data.yaml.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import YOLO segmentation labels: polygons become masks. The images are copied.

    Example: `mnsa import yolo leaves-seg/ --out leaves`
    """
    from mnsa.data.formats.yolo import import_yolo as read

    manifest = read(source, out, val_fraction=val_fraction, seed=seed)
    _print_manifest(manifest, out, test_fraction, seed)


@import_app.command("cvat")
def import_cvat(
    source: Annotated[Path, typer.Argument(help="annotations.xml, exported as `CVAT for images 1.1`.")],
    images: Annotated[Path, typer.Option(help="Folder that the names of the images are relative to.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import CVAT annotations: polygons, boxes and ellipses become masks. The images are copied.

    Example: `mnsa import cvat annotations.xml --images images/ --out leaves`
    """
    from mnsa.data.formats.cvat import import_cvat as read

    manifest = read(source, out, images=images, val_fraction=val_fraction, seed=seed)
    _print_manifest(manifest, out, test_fraction, seed)


@import_app.command("labelme")
def import_labelme(
    source: Annotated[Path, typer.Argument(help="Folder of Labelme's JSON files, one per image.")],
    out: OutOption,
    images: Annotated[Path | None, typer.Option(help="Folder of the images. Default: that of the JSON files.")] = None,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import Labelme annotations: polygons, rectangles and circles become masks. The images are copied.

    Example: `mnsa import labelme photos/ --out leaves`
    """
    from mnsa.data.formats.shapes import import_labelme as read

    manifest = read(source, out, images=images, val_fraction=val_fraction, seed=seed)
    _print_manifest(manifest, out, test_fraction, seed)


@import_app.command("via")
def import_via(
    source: Annotated[Path, typer.Argument(help="JSON file of the VGG Image Annotator: a project, or an export.")],
    images: Annotated[Path, typer.Option(help="Folder of the images.")],
    out: OutOption,
    attribute: Annotated[
        str | None, typer.Option(help="Attribute of the regions that has the class. Default: the only one.")
    ] = None,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import annotations of the VGG Image Annotator: regions become masks. The images are copied.

    Example: `mnsa import via via_project.json --images photos/ --out leaves`
    """
    from mnsa.data.formats.shapes import import_via as read

    _print_manifest(
        read(source, out, images=images, attribute=attribute, val_fraction=val_fraction, seed=seed),
        out,
        test_fraction,
        seed,
    )


@import_app.command("nnunet")
def import_nnunet(
    source: Annotated[Path, typer.Argument(help="Folder such as Dataset101_leaves, with dataset.json and imagesTr.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import a 2D data set of nnU-Net, version 2.

    Example: `mnsa import nnunet Dataset101_leaves --out leaves`
    """
    from mnsa.data.formats.nnunet import import_nnunet as read

    manifest = read(source, out, val_fraction=val_fraction, seed=seed)
    _print_manifest(manifest, out, test_fraction, seed)


@import_app.command("mganet")
def import_mganet(
    source: Annotated[Path, typer.Argument(help="Folder of a data set: soybean_2_1, soybean_1_1, btf or hainan_leaf.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import a data set of MGANet and MNSA: train, test, l2_mask and labels.pkl.

    Example: `mnsa import mganet data/soybean_2_1 --out soybean`
    """
    from mnsa.data.formats.mganet import import_mganet as read

    _write_manifest(
        read(source, mask_classes=mask_class, val_fraction=val_fraction, seed=seed), out, test_fraction, seed
    )


@import_app.command("ufg")
def import_ufg(
    source: Annotated[Path, typer.Argument(help="Folder with images and anno, or the folder of SoyAgeing's stages.")],
    out: OutOption,
    val_fraction: ValFractionOption = 0.2,
    test_fraction: TestFractionOption = None,
    seed: SeedOption = 1,
) -> None:
    """Import a data set of the UFG benchmark: images, and lists of them in anno.

    Example: `mnsa import ufg data/COTTON --out cotton`
    """
    from mnsa.data.formats.ufg import import_ufg as read

    manifest = read(source, val_fraction=val_fraction, seed=seed)
    _write_manifest(manifest, out, test_fraction, seed)


def _write_manifest(manifest: "Manifest", out: Path, test_fraction: float | None, seed: int) -> None:
    from mnsa.data.manifest import write_manifest

    write_manifest(manifest, out)
    _print_manifest(manifest, out, test_fraction, seed)


def _print_manifest(manifest: "Manifest", out: Path, test_fraction: float | None, seed: int) -> None:
    """Hold out the test split where it is asked for, then print what the data set has."""
    from mnsa.data.manifest import SPLITS, hold_out_test

    has_test, has_masks = any(row.split == "test" for row in manifest.rows), any(row.mask for row in manifest.rows)
    if test_fraction is not None and not has_test:
        manifest = hold_out_test(out, test_fraction, seed=seed)
    console.print(
        f"{len(manifest.rows)} images, {len(manifest.classes)} classes, {len(manifest.mask_classes)} mask classes: "
        f"{out}"
    )
    if manifest.classes:
        counts = [(name, sum(row.label == name for row in manifest.rows)) for name in manifest.classes]
        shown = ", ".join(f"{name} {count}" for name, count in counts[:_MAX_CLASSES])
        more = f" and {len(counts) - _MAX_CLASSES} more" if len(counts) > _MAX_CLASSES else ""
        unlabeled = sum(not row.label for row in manifest.rows)
        console.print(f"Classes: {shown}{more}{f'; {unlabeled} images have none' if unlabeled else ''}.")
    if has_masks:
        text, is_strange = _describe_masks(manifest)
        console.print(text, style="yellow" if is_strange else None)
    splits = ", ".join(f"{sum(row.split == name for row in manifest.rows)} {name}" for name in SPLITS)
    console.print(f"Splits: {splits}. Images of one group stay together; `mnsa split` makes other splits.")
    if has_test and test_fraction is not None:
        console.print("The source has a test split, so --test-fraction was not used.", style="yellow")
    if not any(row.split == "test" for row in manifest.rows):
        command = f"mnsa split {out} --val-fraction 0.2 --test-fraction 0.2 --out {out}-split"
        console.print(f"There is no test split. To make one, before training: {command}")


def _describe_masks(manifest: "Manifest") -> tuple[str, bool]:
    """Say how many masks there are, what their values mean, and which values the first have; whether one is wrong."""
    from mnsa.data.decode import BadFileError, unique_mask_values

    masks = [row.mask for row in manifest.rows if row.mask]
    names = manifest.mask_classes
    meaning = (
        f"0 background, 1 or 255 {names[0]}" if len(names) == 1
        else ", ".join(f"{value} {name}" for value, name in enumerate(names))
    )  # fmt: skip
    found, wrong = set[int](), ""
    for mask in masks[:_SAMPLED_MASKS]:
        try:
            found |= unique_mask_values(manifest.root / mask)
        except BadFileError as error:
            wrong = wrong or f" {mask} {error.reason}: `mnsa check` names all such masks."
    values = sorted(found)
    listed = ", ".join(map(str, values[:_MAX_VALUES])) + (", ..." if len(values) > _MAX_VALUES else "")
    sample = f"the first {_SAMPLED_MASKS} have" if len(masks) > _SAMPLED_MASKS else "they have"
    if not found <= ({0, 1, 255} if len(names) == 1 else set(range(len(names)))):
        wrong += " Some mean no class: `mnsa check` names the masks."
    return f"Masks: {len(masks)}; {meaning}; {sample} the values {listed}.{wrong}", bool(wrong)
