"""`mnsa evaluate`: compute the scores of a run on a split."""

import logging
from typing import Annotated, Literal

import typer

from mnsa.cli.shared import (
    HeadOption,
    JsonOption,
    LeafOption,
    LesionOption,
    MaskThresholdOption,
    OtherDataOption,
    QuietOption,
    RepairOption,
    RunArgument,
    TtaOption,
    VeinOption,
    VerboseOption,
    console,
    image_progress,
    print_result,
    set_output,
)
from mnsa.errors import ConfigError

logger = logging.getLogger(__name__)


def evaluate(
    run: RunArgument,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split to evaluate on.")] = "test",
    data: OtherDataOption = None,
    head: HeadOption = "network",
    tta: TtaOption = None,
    mask_threshold: MaskThresholdOption = None,
    repair: RepairOption = None,
    iou_upstream: Annotated[
        bool, typer.Option("--iou-upstream", help="Add the IoU of the published code, which is too high.")
    ] = False,
    traits: Annotated[
        bool, typer.Option("--traits", help="Measure true and predicted masks, so that `mnsa report` compares them.")
    ] = False,
    vein: VeinOption = None,
    leaf: LeafOption = None,
    lesion: LesionOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Evaluate a run on a split, at the original image size. RUN/predictions gets a row per image.

    Example: `mnsa evaluate runs/first --split test`
    """
    set_output(quiet=quiet, verbose=verbose, json=json)
    if not traits and (vein or leaf or lesion):
        raise ConfigError("--vein, --leaf and --lesion are options of trait measurement. Add --traits.")
    logger.info(f"Evaluating {run} on split {split}: loading torch, checking images and masks")
    from mnsa.cli.tables import score_tables
    from mnsa.metrics.scores import evaluation_key
    from mnsa.workflows.evaluate import evaluate_run

    roles = {"vein": vein or (), "leaf": leaf or (), "lesion": lesion or ()} if traits else None
    views = tta or ()
    with image_progress() as show:
        evaluation = evaluate_run(
            run, split=split, dataset=data, head=head, tta=views, upstream_iou=iou_upstream, traits=roles,
            mask_threshold=mask_threshold, repair=repair, progress=lambda done, total: show(done, total, done),
        )  # fmt: skip
    key = evaluation_key(split, head, views, mask_threshold=mask_threshold, repair=repair)
    for table in score_tables(evaluation, key):
        console.print(table)
    print_result({"run": run, "key": key, **evaluation.to_dict()})
    console.print(f"Written to {run / 'evaluation.json'}. Report: mnsa report {run}")
