"""`mnsa fit-trees`: fit boosted trees as a second class head."""

from typing import Annotated

import typer

from mnsa.cli.shared import OtherDataOption, RunArgument, SeedOption, console


def fit_trees(
    run: RunArgument,
    trials: Annotated[int, typer.Option(min=1, help="Number of hyperparameter sets to try.")] = 20,
    seed: SeedOption = 1,
    data: OtherDataOption = None,
) -> None:
    """Fit boosted trees as a second class head. Validation selects their hyperparameters. Needs the extra `trees`.

    Example: `mnsa fit-trees runs/first --trials 20`
    """
    from mnsa.cli.tables import head_table
    from mnsa.workflows.fit_trees import fit_trees as fit

    def show_trial(trial: int, log_loss: float) -> None:
        console.print(f"trial {trial}/{trials}  log-loss {log_loss:.4f}")

    fitted = fit(run, trials=trials, seed=seed, dataset=data, progress=show_trial)
    console.print(head_table(fitted.validation, f"{fitted.dataset}, split val, {fitted.images['val']} images"))
    if fitted.unseen_classes:
        console.print(
            f"Classes without training images, which the trees can't predict: {', '.join(fitted.unseen_classes)}"
        )
    console.print(
        f"Written to {run / 'trees'}. Validation selected the trees, so compare on test: "
        f"mnsa evaluate {run} --head trees"
    )
