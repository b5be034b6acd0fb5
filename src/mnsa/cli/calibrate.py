"""`mnsa calibrate`: calibrate the class probabilities of a run."""

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.shared import OtherDataOption, RunArgument, console

if TYPE_CHECKING:
    from mnsa.inference.calibration_file import Calibration

logger = logging.getLogger(__name__)


def calibrate(
    run: RunArgument,
    data: OtherDataOption = None,
    target: Annotated[
        float, typer.Option(min=0, max=1, help="Accuracy to reach on the images that are not `unknown`.")
    ] = 0.95,
) -> None:
    """Calibrate class probabilities and the threshold of `unknown` on validation images, and choose how masks are made.

    Example: `mnsa calibrate runs/first`, then `mnsa predict runs/first photos/ --out predictions`
    """
    from mnsa.inference.calibration_file import CALIBRATION_FILE
    from mnsa.inference.postprocessing_file import POSTPROCESSING_FILE
    from mnsa.workflows.calibrate import calibrate_all

    logger.info(f"Calibrating {run} on validation images: classes, and how masks are made")
    calibration, masks, problem = calibrate_all(run, target=target, dataset=data)
    if calibration is None:
        console.print(f"Classes are not calibrated: {problem}")
    else:
        console.print(
            f"{calibration.dataset}, split {calibration.split}, {calibration.images} images, "
            f"{calibration.correct} correct"
        )
        console.print(_temperature_line(calibration))
        console.print(_threshold_line(calibration))
        console.print("The boosted trees (--head trees) are not calibrated: temperature 1, no threshold.")
        console.print(f"Written to {run / CALIBRATION_FILE}")
    if masks is not None:
        from mnsa.cli.tables import postprocessing_table

        console.print(f"Masks, {masks.images} images: {masks.summary}")
        console.print(postprocessing_table(masks))
        console.print(f"Written to {run / POSTPROCESSING_FILE}")


def _temperature_line(calibration: "Calibration") -> str:
    if not calibration.fitted:
        return "Every prediction is correct, so no temperature can be fitted: temperature 1."
    before, after = calibration.ece["before"], calibration.ece["after"]
    return (
        f"Temperature {calibration.temperature:.3f}: expected calibration error {before:.3f} -> {after:.3f} "
        f"({calibration.bins} bins)"
    )


def _threshold_line(calibration: "Calibration") -> str:
    if calibration.threshold is None:
        return f"No threshold: none reaches an accuracy of {calibration.target:g}. No class becomes `unknown`."
    return (
        f"`unknown` below {calibration.threshold:.4f}: {calibration.accepted} of {calibration.images} are above, "
        f"{calibration.accepted_correct} of them correct (target {calibration.target:g})"
    )
