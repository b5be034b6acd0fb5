"""`mnsa split`: split a data set into train, val and test again."""

from typing import Annotated

import typer

from mnsa.cli.shared import DatasetArgument, OutOption, SeedOption, console


def split(
    dataset: DatasetArgument,
    out: OutOption,
    val_fraction: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Fraction of the train and val rows. Default: 0.2.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="Fraction of all rows. Default: test rows stay test.")
    ] = None,
    num_folds: Annotated[int | None, typer.Option(min=2, help="Number of folds.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Fold that becomes val, counted from 0.")] = None,
    train_per_class: Annotated[
        int | None, typer.Option(min=1, help="Training images per class. Other training images become unused.")
    ] = None,
    seed: SeedOption = 1,
) -> None:
    """Split a data set again: by fractions, into folds, or with few training images per class.

    The split is stratified by class. Images of one group stay in one split. The image files are not moved.

    Example: `mnsa split leaves --val-fraction 0.2 --test-fraction 0.2 --seed 1 --out leaves-split`
    """
    from dataclasses import replace

    from mnsa.data.manifest import SPLITS, read_manifest, write_manifest
    from mnsa.data.splits import SplitPlan, split_rows

    manifest = read_manifest(dataset)
    plan = SplitPlan(val_fraction, test_fraction, num_folds, fold, train_per_class)
    rows, notes = split_rows(manifest.rows, plan, seed=seed)
    write_manifest(replace(manifest, name=out.name, rows=rows), out)
    for note in notes:
        console.print(note)
    counts = ", ".join(f"{sum(row.split == name for row in rows)} {name}" for name in SPLITS)
    console.print(f"{counts}, {sum(not row.split for row in rows)} unused: {out}")
