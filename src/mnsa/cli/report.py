"""`mnsa report`: write a run or a study as one HTML page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.shared import console, require_extra
from mnsa.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mnsa.study_folder import StudyFolder


def report(
    folder: Annotated[Path, typer.Argument(help="Run folder or study folder.")],
    storage: Annotated[
        str | None, typer.Option(help="URL of the study's storage, if it differs on this machine.")
    ] = None,
) -> None:
    """Write a run or a study as one self-contained page: FOLDER/report.html.

    Run: scores, curves, confusion matrix, classes, worst and best images, traits, reliability, config, provenance.
    Study: trials, Pareto front, effect of each parameter on IoU, selected trial. Figures also go to report/*.png.

    Example: `mnsa report runs/first`, `mnsa report studies/leaves`. To watch a running study:
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
            raise ConfigError(f"--storage is an option of studies, and {folder} is a run. Leave it out.")
        from mnsa.report.run_page import write_run_report

        write_run_report(run)
    else:
        raise RunError(
            f"{folder} is no run and no study: it has neither config.toml and provenance.json nor study.toml. "
            "Expected a folder that `mnsa train --out` or `mnsa search --out` wrote."
        )
    console.print(f"Written to {folder / 'report.html'}")


def _report_study(folder: "StudyFolder", storage: str | None) -> None:
    require_extra("optuna", "search")
    from mnsa.report.study_page import write_study_report
    from mnsa.search.results import update_trials_file
    from mnsa.search.study import join_study, read_study_method
    from mnsa.search.supernet import open_supernet_study
    from mnsa.study_folder import read_study_record

    if read_study_method(folder) == "supernet":
        write_study_report(folder, open_supernet_study(folder.path).read_record())
        return
    update_trials_file(join_study(folder.path, storage=storage))
    write_study_report(folder, read_study_record(folder))
