"""Verbs that make a run, or use one."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from mnsa.cli.app import (
    EngineOption,
    HeadOption,
    LeafOption,
    LesionOption,
    OutOption,
    PrecisionOption,
    PxPerMmOption,
    ReferenceAreaOption,
    RunArgument,
    SeedOption,
    TtaOption,
    VeinOption,
    app,
    console,
)
from mnsa.cli.progress import image_progress
from mnsa.config import load_config
from mnsa.errors import ConfigError

OtherDataOption = Annotated[Path | None, typer.Option("--data", help="Another data set than the run's own.")]


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
        from mnsa.training import fit
        from mnsa.training.optimizers import disable_malloc_trim

        disable_malloc_trim()
        run = fit.resume(resume, devices=devices)
    else:
        if config is None or data is None or out is None:
            raise ConfigError("Give a config, --data and --out: mnsa train configs/demo.toml --data leaves --out run.")
        settings = load_config(config, overrides or ())
        from mnsa.training import fit
        from mnsa.training.optimizers import disable_malloc_trim

        disable_malloc_trim()
        run = fit.train(settings, data, out, devices=devices)
    if fit.is_rank_zero():
        console.print(f"Trained: {run.model_folder}. Score it: mnsa evaluate {run.path}")


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which rows to score.")] = "test",
    data: OtherDataOption = None,
    head: HeadOption = "network",
    tta: TtaOption = None,
    iou_upstream: Annotated[
        bool, typer.Option("--iou-upstream", help="Add the released code's own, flattering IoU, for comparison.")
    ] = False,
    traits: Annotated[
        bool, typer.Option("--traits", help="Measure true and predicted masks, for `mnsa report` to compare.")
    ] = False,
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
) -> None:
    """Score a run on a split, at the images' own size. A row per image is kept in RUN/predictions.

    Example: `mnsa evaluate runs/first --split test`
    """
    if not traits and (vein or leaf or lesion):
        raise ConfigError("--vein, --leaf and --lesion say how to measure. Add --traits.")
    from mnsa.cli.tables import score_tables
    from mnsa.workflows.evaluate import evaluate_run, scores_key

    roles = {"vein": vein or (), "leaf": leaf or (), "lesion": lesion or ()} if traits else None
    views = tta or ()
    scores = evaluate_run(run, split=split, dataset=data, head=head, tta=views, upstream_iou=iou_upstream, traits=roles)
    for table in score_tables(scores, scores_key(split, head, views)):
        console.print(table)
    console.print(f"Written to {run / 'evaluation.json'}. On one page: mnsa report {run}")


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[list[str], typer.Argument(help="Image files, folders or globs.")],
    out: OutOption,
    head: HeadOption = "network",
    traits: Annotated[bool, typer.Option("--traits", help="Measure the masks as `mnsa traits` does.")] = False,
    px_per_mm: PxPerMmOption = None,
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
    reference_area: ReferenceAreaOption = "hull",
    explain: Annotated[
        bool, typer.Option("--explain", help="Draw attention, and Grad-CAM of the class, over each image.")
    ] = False,
    engine: Annotated[
        EngineOption | None, typer.Option(help="Answer with what `mnsa export` wrote; otherwise as in training.")
    ] = None,
    precision: PrecisionOption = "float32",
    tta: TtaOption = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in the network at once. Usually 4, and 32 on a GPU.")
    ] = None,
) -> None:
    """Answer for image files: classes in a CSV, masks as PNG, overlays as JPEG. Exit code 3 when a file was broken.

    The same command goes on where it was interrupted; `torchrun` shares the images among processes and machines.

    Example: `mnsa predict runs/first photos/ --traits --px-per-mm 20 --out answers`
    """
    if not traits and (px_per_mm is not None or vein or leaf or lesion or reference_area != "hull"):
        raise ConfigError(
            "--px-per-mm, --vein, --leaf, --lesion and --reference-area say how to measure. Add --traits."
        )
    if engine is None and precision != "float32":
        raise ConfigError("--precision says which exported network is to answer. Add --engine.")
    from mnsa.batch.batching import local_device, shard_from_env
    from mnsa.batch.predict_files import find_images, predict_files
    from mnsa.batch.prediction_folder import is_prediction_folder
    from mnsa.inference.predictor import load
    from mnsa.traits import TraitMeasurer, find_roles

    views = tta or ()
    predictor, measurer = load(run, head=head, engine=engine, precision=precision, explain=explain, tta=views), None
    if traits:
        roles = find_roles(predictor.mask_classes, vein=vein or (), leaf=leaf or (), lesion=lesion or ())
        measurer = TraitMeasurer(roles, px_per_mm=px_per_mm, reference_area=reference_area)
    shard = shard_from_env()
    predictor.network.to(local_device())
    with image_progress() if shard.rank == 0 else nullcontext() as progress:
        answers = predict_files(
            predictor, find_images(images, exclude=out if is_prediction_folder(out) else None), out, measurer=measurer,
            batch_size=batch_size, shard=shard,
            options={"head": head, "engine": f"{engine} {precision}" if engine else "none"}, progress=progress,
        )  # fmt: skip
    if answers.missing:
        console.print(f"{answers.new} answered; other processes still have {answers.missing}, and then write {out}.")
        return
    earlier = "" if answers.new else "Finished before, nothing done anew: "
    console.print(f"{earlier}{answers.done} answered, {answers.failed} broken: {answers.table}")
    if answers.sheet:
        console.print(f"Overlays at a glance: {answers.sheet}")
    if answers.failed:
        raise typer.Exit(3)


@app.command("import-checkpoint")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="State dict (.pth) of the released MNSA or MGANet code.")],
    out: OutOption,
    attention: Annotated[
        Literal["none", "mean", "mean_max"] | None, typer.Option(help="Needed when the file has no attention weights.")
    ] = None,
) -> None:
    """Turn a checkpoint of the released MNSA or MGANet code into a run folder. Nothing in the file is executed.

    Example: `mnsa import-checkpoint best_model.pth --out runs/released`
    """
    from mnsa.workflows.import_checkpoint import import_checkpoint as read

    run = read(file, out, attention=attention)
    console.print(f"Imported: {run.model_folder}. Use it: mnsa predict {run.path} photos/ --out answers")


@app.command()
def fit_trees(
    run: RunArgument,
    trials: Annotated[int, typer.Option(min=1, help="How many sets of parameters validation chooses from.")] = 20,
    seed: SeedOption = 1,
    data: OtherDataOption = None,
) -> None:
    """Grow boosted trees as a second class head, chosen by validation. Needs the extra `trees`.

    Example: `mnsa fit-trees runs/first --trials 20`
    """
    from mnsa.cli.tables import head_table
    from mnsa.workflows.fit_trees import fit_trees

    def show(trial: int, log_loss: float) -> None:
        console.print(f"trial {trial}/{trials}  log-loss {log_loss:.4f}")

    card = fit_trees(run, trials=trials, seed=seed, dataset=data, progress=show)
    console.print(head_table(card.validation, f"{card.dataset}, split val, {card.images['val']} images"))
    if card.unseen_classes:
        console.print(f"No training image, so the trees don't know: {', '.join(card.unseen_classes)}")
    console.print(
        f"Written to {run / 'trees'}. Validation chose them, so compare on test: mnsa evaluate {run} --head trees"
    )
