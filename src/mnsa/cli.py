"""The command line: one verb, one call. torch is imported only after the arguments are valid."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from mnsa.config import load_config
from mnsa.errors import ConfigError, MnsaError

if TYPE_CHECKING:
    from mnsa.data.manifest import Manifest

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Which cultivar is this leaf, and where are its veins: one network for both.",
)
imports = typer.Typer(no_args_is_help=True, help="Make a data set from what you have; your files stay where they are.")
app.add_typer(imports, name="import")
console = Console(soft_wrap=True, markup=False)  # a path may hold brackets

Out = Annotated[Path, typer.Option("--out", help="New folder; one that exists is never overwritten.")]
MaskNames = Annotated[
    list[str] | None, typer.Option("--mask-class", help="Name of a mask class, in order of pixel value; repeat it.")
]
ValidationShare = Annotated[
    float, typer.Option(min=0.01, max=0.9, help="Share of train that becomes validation when the source has none.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]


def main() -> None:
    """Entry point of the `mnsa` command: a MnsaError becomes one paragraph and its exit code."""
    try:
        app()
    except MnsaError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False)
        sys.exit(error.exit_code)


@imports.command("folders")
def import_folders(
    source: Annotated[Path, typer.Argument(help="Folder of class folders, with or without train/val/test above them.")],
    out: Out,
    mask_class: MaskNames = None,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """Class folders, with or without a folder of masks.

    Example: `mnsa import folders photos/ --out leaves`
    """
    from mnsa.data.importers import import_folders as read

    _write(read(source, mask_classes=mask_class, validation_share=validation_share, seed=seed), out)


@imports.command("csv")
def import_csv(
    source: Annotated[Path, typer.Argument(help="CSV file with one row per image; paths relative to it.")],
    out: Out,
    image: Annotated[str, typer.Option(help="Column of image paths.")] = "image",
    mask: Annotated[str | None, typer.Option(help="Column of mask paths.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of class names.")] = None,
    split: Annotated[str | None, typer.Option(help="Column of train/val/test.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of plants: their images stay in one split.")] = None,
    px_per_mm: Annotated[str | None, typer.Option(help="Column of scales, pixels per millimetre.")] = None,
    drop_label: Annotated[list[str] | None, typer.Option(help="Leave out the rows of this class; repeat it.")] = None,
    mask_class: MaskNames = None,
    validation_share: ValidationShare = 0.2,
    seed: Seed = 1,
) -> None:
    """A table of images, masks and labels.

    Example: `mnsa import csv labels.csv --image file --mask mask --label cultivar --out leaves`
    """
    from mnsa.data.importers import import_csv as read

    manifest = read(
        source, image=image, mask=mask, label=label, split=split, group=group, px_per_mm=px_per_mm,
        drop_labels=drop_label or [], mask_classes=mask_class, validation_share=validation_share, seed=seed,
    )  # fmt: skip
    _write(manifest, out)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="New folder for the data set.")],
    cultivars: Annotated[int, typer.Option(min=1, help="How many cultivars.")] = 12,
    per_cultivar: Annotated[int, typer.Option(min=1, help="Leaves of each.")] = 20,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Image side, in pixels.")] = 256,
    seed: Seed = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the leaves don't depend on it.")] = 2,
) -> None:
    """Draw leaves with known veins, cultivars and traits.

    Example: `mnsa synth --cultivars 12 --per-cultivar 20 --size 256 --seed 1 leaves`
    """
    from mnsa.data.synthetic import write_dataset

    manifest = write_dataset(
        out, cultivars=cultivars, per_cultivar=per_cultivar, size_px=size, seed=seed, workers=workers
    )
    console.print(f"{len(manifest.rows)} leaves of {cultivars} cultivars in {out}")


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="TOML file; configs/ holds ready ones.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data set: a folder with manifest.csv and dataset.toml.")] = None,
    out: Annotated[Path | None, typer.Option(help="New run folder.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeat it.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes, a GPU each where there are some.")] = 1,
    resume: Annotated[Path | None, typer.Option(help="Continue this interrupted run.")] = None,
) -> None:
    """Train a network, or continue a run.

    Example: `mnsa train configs/demo.toml --data leaves --out runs/first --set train.seed=2`
    """
    if resume is not None:
        if config or data or out or overrides:
            raise ConfigError("--resume takes everything from the run folder. Give it alone, or with --devices.")
        from mnsa.training.fit import resume as continue_run

        run = continue_run(resume, devices=devices)
    else:
        if config is None or data is None or out is None:
            raise ConfigError("Give a config, --data and --out: mnsa train configs/demo.toml --data leaves --out run.")
        settings = load_config(config, overrides or ())
        from mnsa.training.fit import train as train_run

        run = train_run(settings, data, out, devices=devices)
    console.print(f"Trained: {run.model_folder}. Score it: mnsa evaluate {run.path}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which rows to score.")] = "test",
    data: Annotated[Path | None, typer.Option(help="Another data set than the run's own.")] = None,
) -> None:
    """Score a run on a split, at the images' own size.

    Example: `mnsa evaluate runs/first --split test`
    """
    from mnsa.inference.run_evaluation import evaluate_run
    from mnsa.tables import score_tables

    for table in score_tables(evaluate_run(run, split=split, dataset=data), split):
        console.print(table)
    console.print(f"Written to {run / 'evaluation.json'}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders or globs.")],
    out: Out,
) -> None:
    """Answer for image files: classes in a CSV, masks and overlays as PNG. Exit code 3 when a file was broken.

    Example: `mnsa predict runs/first photos/ --out answers`
    """
    from mnsa.inference.files import find_images, predict_files
    from mnsa.inference.predictor import load

    answers = predict_files(load(run), find_images(images), out)
    console.print(f"{answers.done} answered, {answers.broken} broken: {answers.table}")
    if answers.sheet:
        console.print(f"Overlays at a glance: {answers.sheet}")
    if answers.broken:
        raise typer.Exit(3)


def _write(manifest: "Manifest", out: Path) -> None:
    from mnsa.data.manifest import write_manifest

    write_manifest(manifest, out)
    console.print(
        f"{len(manifest.rows)} images, {len(manifest.classes)} classes, {len(manifest.mask_classes)} mask classes: "
        f"{out}"
    )
