"""The verb that makes a page of what a folder holds."""

from pathlib import Path
from typing import Annotated

import typer

from mnsa.cli.app import app, console, require_extra


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Study folder.")],
    storage: Annotated[str | None, typer.Option(help="Where this machine reaches the study's storage.")] = None,
) -> None:
    """Show a study: its trials, the Pareto front, what IoU depends on, the winner and its rivals.

    Example: `mnsa report studies/leaves`

    Writes report.html, which holds everything, and report/*.png. To watch a study while it runs:
    `optuna-dashboard sqlite:///studies/leaves/study.db` (pip install optuna-dashboard).
    """
    require_extra("matplotlib", "report")
    require_extra("optuna", "search")
    from mnsa.report.study_page import write_study_report
    from mnsa.search.found import refresh
    from mnsa.search.study import join_study
    from mnsa.study_folder import StudyFolder, read_study_record

    folder = StudyFolder(study)
    refresh(join_study(study, storage=storage))
    write_study_report(folder, read_study_record(folder))
    console.print(f"Written to {folder.report_file}")
