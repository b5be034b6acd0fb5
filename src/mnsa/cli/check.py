"""Verbs that look at a data set, deal it anew, or take one out of an archive."""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from mnsa.cli.app import MaskClassOption, OutOption, SeedOption, app, console
from mnsa.cli.data import ValFractionOption, import_app
from mnsa.errors import DataError

DataSetArgument = Annotated[Path, typer.Argument(help="Data set: a folder with manifest.csv and dataset.toml.")]


@app.command()
def check(
    dataset: DataSetArgument,
    json_file: Annotated[Path | None, typer.Option("--json", help="New file for all findings and the summary.")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="New PNG: images at a glance, their masks outlined.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the findings don't depend on it.")] = 2,
) -> None:
    """List every finding of a data set. Exit code 0 when there is none, 1 with warnings alone, 2 with errors.

    Example: `mnsa check leaves --json findings.json --contact-sheet leaves.png`
    """
    for file in (json_file, contact_sheet):
        if file and (file.exists() or not file.absolute().parent.is_dir()):
            raise DataError(f"{file} exists already, or its folder doesn't. Choose another file.")
    from mnsa.cli.check_tables import findings_table, summary_tables
    from mnsa.data.validation.contact_sheet import write_contact_sheet
    from mnsa.data.validation.validate import validate_dataset

    bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
    task = bar.add_task("Looking at images", total=None)
    with bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow mumbles about a file, its findings say
        report = validate_dataset(
            dataset, workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if report.findings:
        console.print(findings_table(report))
    if report.summary:
        for table in summary_tables(report.summary):
            console.print(table)
    console.print(f"{report.errors} errors, {len(report.findings) - report.errors} warnings: {dataset}")
    if json_file:
        text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
        json_file.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name need not be UTF-8
    if contact_sheet and report.manifest:
        write_contact_sheet(report.manifest, contact_sheet)
    raise typer.Exit(report.exit_code)


@app.command()
def split(
    dataset: DataSetArgument,
    out: OutOption,
    val_fraction: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Fraction of the rows that are split again; default 0.2.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Fraction of all rows; without it the test rows stay test.")
    ] = None,
    num_folds: Annotated[int | None, typer.Option(min=2, help="How many folds.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="The fold that becomes val, counted from 0.")] = None,
    train_per_class: Annotated[
        int | None, typer.Option(min=1, help="Training images per class that stay; the others are used nowhere.")
    ] = None,
    seed: SeedOption = 1,
) -> None:
    """Split a data set again: by fractions, as one of several folds, or down to a few images per class.

    Classes are spread alike and groups stay whole. The images stay where they are.

    Example: `mnsa split leaves --val-fraction 0.2 --test-fraction 0.2 --seed 1 --out leaves-split`
    """
    from dataclasses import replace

    from mnsa.data.manifest import SPLITS, read_manifest, write_manifest
    from mnsa.data.splits import SplitPlan, split_rows

    manifest = read_manifest(dataset)
    rows, notes = split_rows(
        manifest.rows, SplitPlan(val_fraction, test_fraction, num_folds, fold, train_per_class), seed=seed
    )
    write_manifest(replace(manifest, name=out.name, rows=rows), out)
    for note in notes:
        console.print(note)
    counts = ", ".join(f"{sum(row.split == name for row in rows)} {name}" for name in SPLITS)
    console.print(f"{counts}, {sum(not row.split for row in rows)} unused: {out}")


@import_app.command("zip")
def import_zip(
    source: Annotated[Path, typer.Argument(help="Zip file of class folders, with or without train/val/test above.")],
    out: OutOption,
    mask_class: MaskClassOption = None,
    max_gigabytes: Annotated[float, typer.Option(min=0.001, help="Largest size when unpacked.")] = 20,
    max_files: Annotated[int, typer.Option(min=1, help="Most members.")] = 200_000,
    val_fraction: ValFractionOption = 0.2,
    seed: SeedOption = 1,
) -> None:
    """Class folders in a zip file, which is unpacked into the new data set; what is not safe to unpack is refused.

    Example: `mnsa import zip photos.zip --out leaves`
    """
    from mnsa.data.formats.zip_archive import ZipLimits
    from mnsa.data.formats.zip_archive import import_zip as read

    limits = ZipLimits(total_bytes=int(max_gigabytes * 10**9), files=max_files)
    manifest = read(source, out, limits=limits, mask_classes=mask_class, val_fraction=val_fraction, seed=seed)
    console.print(f"{len(manifest.rows)} images, {len(manifest.classes)} classes: {out}")
