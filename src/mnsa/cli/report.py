"""The verb that makes a page of what a folder holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.app import app, console, require_extra
from mnsa.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mnsa.study_folder import StudyFolder


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Run folder, or study folder.")],
    storage: Annotated[str | None, typer.Option(help="Where this machine reaches the study's storage.")] = None,
) -> None:
    """Show a run or a study on one page that needs nothing else: FOLDER/report.html.

    A run: scores, curves, confusion matrix, classes, worst and best images, traits, reliability, config, provenance.
    A study: its trials, the Pareto front, what IoU depends on, the winner and its rivals; report/*.png as well.

    Example: `mnsa report runs/first`, `mnsa report studies/leaves`. To watch a study while it runs:
    `optuna-dashboard sqlite:///studies/leaves/study.db` (pip install optuna-dashboard).
    """
    require_extra("matplotlib", "report")
    from mnsa.run_folder import RunFolder
    from mnsa.study_folder import StudyFolder

    study, run = StudyFolder(folder), RunFolder(folder)
    if study.study_file.is_file():
        _report_study(study, storage)
    elif run.provenance_file.is_file() or run.config_file.is_file():
        if storage is not None:
            raise ConfigError(f"--storage is where a study's trials are, and {folder} is a run. Leave it out.")
        from mnsa.report.run_page import write_run_report

        write_run_report(run)
    else:
        raise RunError(
            f"{folder} is no study and no run: it holds neither study.toml nor config.toml and provenance.json. "
            "Expected what `mnsa train --out` or `mnsa search --out` wrote."
        )
    console.print(f"Written to {folder / 'report.html'}")


def _report_study(folder: "StudyFolder", storage: str | None) -> None:
    require_extra("optuna", "search")
    from mnsa.report.study_page import write_study_report
    from mnsa.search.results import update_trials_file
    from mnsa.search.study import join_study
    from mnsa.study_folder import read_study_record

    update_trials_file(join_study(folder.path, storage=storage))
    write_study_report(folder, read_study_record(folder))
