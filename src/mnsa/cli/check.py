"""Verbs that look at a data set, deal it anew, or take one out of an archive."""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from mnsa.cli.app import MaskNames, Out, Seed, app, console
from mnsa.cli.data import ValidationShare, imports
from mnsa.errors import DataError

DataSet = Annotated[Path, typer.Argument(help="Data set: a folder with manifest.csv and dataset.toml.")]


@app.command()
def check(
    dataset: DataSet,
    json_file: Annotated[Path | None, typer.Option("--json", help="New file for all faults and the summary.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="New PNG: images at a glance, their masks outlined.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the findings don't depend on it.")] = 2,
) -> None:
    """List every fault of a data set. Exit code 0 when there is none, 1 with warnings alone, 2 with errors.

    Example: `mnsa check leaves --json faults.json --sheet leaves.png`
    """
    for file in (json_file, sheet):
        if file and (file.exists() or not file.absolute().parent.is_dir()):
            raise DataError(f"{file} exists already, or its folder doesn't. Choose another file.")
    from mnsa.data.check import check_dataset
    from mnsa.data.check.contact_sheet import write_contact_sheet
    from mnsa.data.check.tables import fault_table, summary_tables

    bar = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
    task = bar.add_task("Looking at images", total=None)
    with bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow mumbles about a file, its faults say
        findings = check_dataset(
            dataset, workers=workers, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if findings.faults:
        console.print(fault_table(findings))
    if findings.summary:
        for table in summary_tables(findings.summary):
            console.print(table)
    console.print(f"{findings.errors} errors, {len(findings.faults) - findings.errors} warnings: {dataset}")
    if json_file:
        text = json.dumps(findings.as_tree(), indent=1, ensure_ascii=False) + "\n"
        json_file.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name need not be UTF-8
    if sheet and findings.manifest:
        write_contact_sheet(findings.manifest, sheet)
    raise typer.Exit(findings.exit_code)


@app.command()
def split(
    dataset: DataSet,
    out: Out,
    val: Annotated[float | None, typer.Option(min=0.01, max=0.9, help="Share of what is dealt; usually 0.2.")] = None,
    test: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Share of all; without it what is test stays test.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="How many folds.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="The fold that becomes val, counted from 0.")] = None,
    few_shot: Annotated[
        int | None, typer.Option(min=1, help="Training images per class that stay; the others are used nowhere.")
    ] = None,
    seed: Seed = 1,
) -> None:
    """Deal a data set's rows anew: by shares, as one of several folds, or down to a few images per class.

    Classes are spread alike and groups stay whole. The images stay where they are.

    Example: `mnsa split leaves --val 0.2 --test 0.2 --seed 1 --out leaves-dealt`
    """
    from dataclasses import replace

    from mnsa.data.deal import Plan, deal
    from mnsa.data.manifest import SPLITS, read_manifest, write_manifest

    manifest = read_manifest(dataset)
    rows, notes = deal(manifest.rows, Plan(val, test, folds, fold, few_shot), seed=seed)
    write_manifest(replace(manifest, name=out.name, rows=rows), out)
    for note in notes:
        console.print(note)
    counts = ", ".join(f"{sum(row.split == name for row in rows)} {name}" for name in SPLITS)
    console.print(f"{counts}, {sum(not row.split for row in rows)} unused: {out}")


@imports.command("zip")
def import_zip(
    source: Annotated[Path, typer.Argument(help="Zip file of class folders, with or without train/val/test above.")],
    out: Out,
    mask_class: MaskNames = None,
    max_gigabytes: Annotated[float, typer.Option(min=0.001, help="Largest size when unpacked.")] = 20,
    max_files: Annotated[int, typer.Option(min=1, help="Most members.")] = 200_000,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """Class folders in a zip file, which is unpacked into the new data set; what is not safe to unpack is refused.

    Example: `mnsa import zip photos.zip --out leaves`
    """
    from mnsa.data.importers.zip_file import Limits
    from mnsa.data.importers.zip_file import import_zip as read

    limits = Limits(total_bytes=int(max_gigabytes * 10**9), files=max_files)
    manifest = read(source, out, limits=limits, mask_classes=mask_class, validation_share=validation_share, seed=seed)
    console.print(f"{len(manifest.rows)} images, {len(manifest.classes)} classes: {out}")
