"""Verbs that make a run, or use one."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mnsa.cli.app import Ground, LeafNames, LesionNames, Out, PxPerMm, Run, VeinNames, app, console
from mnsa.config import load_config
from mnsa.errors import ConfigError


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
    run: Run,
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
    run: Run,
    images: Annotated[list[str], typer.Argument(help="Image files, folders or globs.")],
    out: Out,
    traits: Annotated[bool, typer.Option("--traits", help="Measure the masks as `mnsa traits` does.")] = False,
    px_per_mm: PxPerMm = None,
    vein: VeinNames = None,
    leaf: LeafNames = None,
    lesion: LesionNames = None,
    ground: Ground = "hull",
) -> None:
    """Answer for image files: classes in a CSV, masks and overlays as PNG. Exit code 3 when a file was broken.

    Example: `mnsa predict runs/first photos/ --traits --px-per-mm 20 --out answers`
    """
    if not traits and (px_per_mm is not None or vein or leaf or lesion or ground != "hull"):
        raise ConfigError("--px-per-mm, --vein, --leaf, --lesion and --ground say how to measure. Add --traits.")
    from mnsa.inference.files import find_images, predict_files
    from mnsa.inference.predictor import load
    from mnsa.traits import Ruler, find_roles

    predictor, ruler = load(run), None
    if traits:
        roles = find_roles(predictor.mask_classes, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
        ruler = Ruler(roles, px_per_mm=px_per_mm, ground=ground)
    answers = predict_files(predictor, find_images(images), out, ruler=ruler)
    console.print(f"{answers.done} answered, {answers.broken} broken: {answers.table}")
    if answers.sheet:
        console.print(f"Overlays at a glance: {answers.sheet}")
    if answers.broken:
        raise typer.Exit(3)
