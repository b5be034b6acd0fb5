"""The verb that finds out how sure a run really is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.app import RunArgument, app, console

if TYPE_CHECKING:
    from mnsa.inference.calibration_file import Calibration


@app.command()
def calibrate(
    run: RunArgument,
    data: Annotated[Path | None, typer.Option("--data", help="Another data set than the run's own.")] = None,
    target: Annotated[
        float, typer.Option(min=0, max=1, help="Share of right answers among those that aren't `unknown`.")
    ] = 0.95,
) -> None:
    """Make probabilities mean what they say, and find below which an answer is `unknown`; on validation alone.

    Example: `mnsa calibrate runs/first`, then `mnsa predict runs/first photos/ --out answers`
    """
    from mnsa.inference.calibration_file import CALIBRATION_FILE
    from mnsa.workflows.calibrate import calibrate_run

    found = calibrate_run(run, target=target, dataset=data)
    console.print(f"{found.dataset}, split {found.split}, {found.images} images, {found.correct} answers right")
    console.print(_temperature_line(found))
    console.print(_threshold_line(found))
    console.print("The trees' head (--head trees) is not calibrated: temperature 1, no threshold.")
    console.print(f"Written to {run / CALIBRATION_FILE}")


def _temperature_line(found: "Calibration") -> str:
    if not found.fitted:
        return "Every answer is right, which says nothing of how sure is too sure: temperature 1, as it was."
    before, after = found.ece["before"], found.ece["after"]
    return f"Temperature {found.temperature:.3f}: calibration error {before:.3f} -> {after:.3f} ({found.bins} bins)"


def _threshold_line(found: "Calibration") -> str:
    if found.threshold is None:
        return f"No threshold: at none are {found.target:g} of the answers right. No answer becomes `unknown`."
    accepted = f"{found.accepted} of {found.images} images reach it, {found.accepted_correct} of them answered right"
    return f"`unknown` below {found.threshold:.4f}: {accepted} (target {found.target:g})"
