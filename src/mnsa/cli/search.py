"""`mnsa search`: search for an architecture, or join a running search."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnsa.cli.shared import console, require_extra
from mnsa.config import Config, load_config
from mnsa.errors import ConfigError, TrainingInterruptedError
from mnsa.signals import StopSignal, stop_signals

if TYPE_CHECKING:
    from mnsa.search.study import SearchStudy
    from mnsa.search.supernet import SupernetStudy

METHODS = ("trials", "supernet")

HINT = (
    "Give a config, --data, --out and --trials: mnsa search configs/search.toml --data leaves --out study --trials 40. "
    "With --method supernet, --trials may be left out."
)


def search(
    config: Annotated[Path | None, typer.Argument(help="TOML file. Its [search] section defines the space.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data set. The search never uses its test rows.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New study folder. Its name is the study's name. With --extract: new run folder."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials of all workers together, or of slices that are scored.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="trials (one training each) or supernet (one training). Default: the config's.")
    ] = None,
    join: Annotated[Path | None, typer.Option(help="Study folder to join as a worker, or to resume.")] = None,
    extract: Annotated[
        Path | None, typer.Option(help="Study folder of a supernet: write the selected slice to --out.")
    ] = None,
    under: Annotated[float | None, typer.Option(help="The same as --select under=GMACS.")] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train the extracted slice further.")] = False,
    storage: Annotated[str | None, typer.Option(help="URL of the trial storage. Default: a file in --out.")] = None,
    select: Annotated[
        str | None, typer.Option(help="Rule: best (IoU), knee (of the Pareto front), or under=GMACS.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value. Repeat it.")] = None,
) -> None:
    """Search for the widths (and other parameters) of a network by validation IoU.

    Example: `mnsa search configs/search.toml --data leaves --out studies/leaves --trials 40`

    All widths by one training: `mnsa search configs/search.toml --method supernet --data leaves --out studies/all`,
    then `mnsa search --extract studies/all --under 1.5 --out runs/small`

    Storages: sqlite:///FILE, postgresql://..., mysql://..., journal:FILE (shared disk), grpc://HOST:PORT.
    """
    require_extra("optuna", "search")
    try:
        with stop_signals():
            if under is not None:
                select = _add_limit(select, under)
            if extract is not None:
                others = (config, data, join, trials, storage, overrides, method)
                _extract(extract, out, select, retrain=retrain, has_others=any(others))
                return
            if retrain:
                raise ConfigError("--retrain is an option of --extract.")
            _search(config, data, out, trials, join, storage, select, overrides, method)
    except StopSignal as stop:
        folder = join or out
        began = folder is not None and folder.exists()
        hint = f"Continue with: mnsa search --join {folder}" if began else "The search had not begun."
        raise TrainingInterruptedError(f"Interrupted ({stop}). {hint}", stop.exit_code) from None


def _add_limit(select: str | None, under: float) -> str:
    if select is not None:
        raise ConfigError("--under is a rule like --select. Give one of them.")
    return f"under={under:g}"


def _search(
    config: Path | None, data: Path | None, out: Path | None, trials: int | None, join: Path | None,
    storage: str | None, select: str | None, overrides: list[str] | None, method: str | None,
) -> None:  # fmt: skip
    if method not in (None, *METHODS):
        raise ConfigError(f"--method is {method!r}; expected {' or '.join(METHODS)}.")
    if join is not None:
        if config or data or out or overrides:
            raise ConfigError(
                "--join takes everything from the study's folder. Give it with --trials, --storage, --select."
            )
        _join(join, trials, storage, select, method)
        return
    if config is None or data is None or out is None:
        raise ConfigError(HINT)
    changes = [*(overrides or ()), *([f"search.method={method}"] if method else ())]
    _create(load_config(config, changes), data, out, trials, storage, select)


def _create(config: Config, data: Path, out: Path, trials: int | None, storage: str | None, select: str | None) -> None:
    if config.search.method == "supernet":
        _require_no_storage(storage)
        from mnsa.search.supernet import create_supernet_study

        _run_supernet(create_supernet_study(config, data, out, slices=trials, rule=select or "best"), select)
        return
    if trials is None:
        raise ConfigError(HINT)
    from mnsa.search.study import create_study

    _run_study(create_study(config, data, out, trials=trials, storage=storage, rule=select or "best"), select)


def _join(path: Path, trials: int | None, storage: str | None, select: str | None, method: str | None) -> None:
    from mnsa.search.study import join_study, read_study_method, require_method
    from mnsa.search.supernet import open_supernet_study
    from mnsa.study_folder import StudyFolder

    begun = read_study_method(StudyFolder(path))
    require_method(StudyFolder(path), begun, method or begun)
    if begun == "supernet":
        _require_no_storage(storage)
        _run_supernet(open_supernet_study(path, slices=trials), select)
    else:
        _run_study(join_study(path, trials=trials, storage=storage), select)


def _require_no_storage(storage: str | None) -> None:
    if storage is not None:
        raise ConfigError("--storage is for trials of several workers; a supernet is one training. Leave it out.")


def _extract(path: Path, out: Path | None, rule: str | None, *, retrain: bool, has_others: bool) -> None:
    if has_others or out is None:
        raise ConfigError("--extract takes --out and perhaps --under, --select or --retrain, and nothing else.")
    from mnsa.search.extraction import extract_slice
    from mnsa.search.supernet import open_supernet_study

    trial = extract_slice(open_supernet_study(path), out, rule, retrain=retrain)
    score = f"IoU {trial.iou:.4f} on validation"
    if retrain:
        score += f", {trial.retrained_iou:.4f} after training"
    console.print(f"Slice {trial.number} ({(trial.macs or 0) / 1e9:.4g} GMACs, {score}): {out}")


def _run_supernet(study: "SupernetStudy", select: str | None) -> None:
    from mnsa.search.supernet import run_supernet, select_slice

    path = study.folder.path
    console.print(
        f"Study {path.resolve().name!r}: {study.space.num_points:,} possible networks, one training, up to "
        f"{min(study.budget, study.space.num_points)} scored slices. To resume: mnsa search --join {path}"
    )
    run_supernet(study)
    best = select_slice(study, select)
    console.print(
        f"Pareto front: {len(best.study.front)} networks. Selected slice {best.trial.number} "
        f"({best.study.selection_rule}): {study.folder.best_file}"
    )
    console.print(f"Take it: mnsa search --extract {path} --out RUN. Report: mnsa report {path}")


def _run_study(study: "SearchStudy", select: str | None) -> None:
    from mnsa.search.results import write_best
    from mnsa.search.worker import run_worker

    settings, folder = study.config.search, study.folder
    console.print(
        f"Study {study.name!r}: {study.space.num_points:,} possible networks, {study.queue.budget} trials "
        f"({settings.sampler}, pruner {settings.pruner}), storage {study.url}. "
        f"To add a worker or to resume: mnsa search --join {folder.path}"
    )
    run_worker(study)
    best = write_best(study, select)
    console.print(f"Selected trial {best.trial.number} ({best.study.selection_rule}): {folder.best_file}")
    console.print(
        f"Train it: mnsa train {folder.best_file} --data DATASET --out RUN. Report: mnsa report {folder.path}"
    )
