"""`mnsa study`: train and evaluate a grid of data sets, configs and seeds, and make one table of their scores."""

import csv
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError
from scipy import stats

from mnsa.config import Config, load_config
from mnsa.config.section import Section
from mnsa.errors import ConfigError, MnsaError
from mnsa.io import atomic_write_text, lock, read_toml
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.metrics.scores import Score, format_score
from mnsa.run_folder import RunFolder, read_run_config
from mnsa.training import fit
from mnsa.workflows.evaluate import evaluate_run
from mnsa.workflows.fit_postprocessing import fit_after_training

logger = logging.getLogger(__name__)

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]


class StudyConfig(Section):
    """One row of the table: a config and its changes."""

    config: str = Field(description="TOML file, relative to the study file, or the name of a ready config.")
    set: tuple[str, ...] = Field(default=(), description="Changes, as `section.key=value`.")


class Study(Section):
    """A study file. Every config is trained on every data set, once per seed."""

    datasets: Annotated[dict[_Name, str], Field(min_length=1)] = Field(
        description="Names and folders, relative to the study file."
    )
    configs: Annotated[dict[_Name, StudyConfig], Field(min_length=1)] = Field(description="Names and configs.")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = Field(
        default=(1, 2, 3), description="Values of `train.seed`."
    )
    split: Literal["val", "test"] = Field(default="test", description="The split that is scored.")
    scores: tuple[str, ...] = Field(
        default=(), description="Scores of the table, as `accuracy` or `iou/vein`. Empty: the main ones."
    )


class Cell(NamedTuple):
    """One run of a study."""

    dataset: str
    config: str
    seed: int

    def run(self, out: Path) -> RunFolder:
        """Its run folder."""
        return RunFolder(out / self.dataset / self.config / f"seed_{self.seed}")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One score of one config on one data set.

    mean: over seeds. half_width: half of its 95 % interval; None for one seed.
    """

    dataset: str
    config: str
    score: str
    mean: float
    half_width: float | None
    seeds: int


def read_study(file: Path, datasets: Mapping[str, Path]) -> Study:
    """Read a study file; `datasets` replaces folders by name. Raises: ConfigError that names the file and the key."""
    try:
        study = Study.model_validate(read_toml(file))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{file}: {'; '.join(problems)}.") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file} can't be read as TOML: {error}. Correct this place, and save it as UTF-8.") from None
    if unknown := datasets.keys() - study.datasets.keys():
        raise ConfigError(f"{file} has no data set {min(unknown)!r}. It has {', '.join(study.datasets)}.")
    paths = {name: str(datasets.get(name, file.parent / path)) for name, path in study.datasets.items()}
    return study.model_copy(update={"datasets": paths})


def run_study(file: Path, out: Path, *, datasets: Mapping[str, Path] | None = None) -> list[TableRow]:
    """Run what is missing of a study, and return the table of what is there.

    Finished runs are kept, interrupted ones continue. Several processes can work on one folder: each takes runs that no
    other one has. A run that fails is reported at the end; the others are run.
    out: folder of the runs, OUT/DATASET/CONFIG/seed_N. datasets: folders in place of those in the file, by name.
    Raises: ConfigError for an invalid file; the error of the first run that failed.
    """
    study = read_study(file, datasets or {})
    configs = {name: _load(file, name, one) for name, one in study.configs.items()}
    failed: list[MnsaError] = []
    for number, cell in enumerate(cells := list(_cells(study)), start=1):
        run = cell.run(out)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with lock(run.path.with_name(f".{run.path.name}.lock"), timeout_s=0):
                config = _with_seed(configs[cell.config], cell.seed)
                _require_same_config(run, config, f"{file}, configs.{cell.config}")
                if study.split in read_evaluations(run):
                    continue
                logger.info(f"{number} of {len(cells)}: {run.path}")
                _complete(run, config, Path(study.datasets[cell.dataset]))
                evaluate_run(run.path, split=study.split)
        except TimeoutError:
            logger.info(f"{number} of {len(cells)}: {run.path} is trained by another process")
        except fit.TrainingInterruptedError:
            raise
        except MnsaError as error:
            logger.warning(f"{run.path} failed: {error}")
            failed.append(error)
    table = make_table(study, out)
    if failed:
        raise failed[0]
    return table


def make_table(study: Study, out: Path) -> list[TableRow]:
    """The scores of all runs that are finished, and the files table.csv, table.md and table.tex. Raises: OSError."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for cell in _cells(study):
        evaluation = read_evaluations(cell.run(out)).get(study.split)
        for score in evaluation.scores if evaluation else ():
            if score.value is not None and _is_shown(score, study.scores):
                values.setdefault((cell.dataset, cell.config, score.title), []).append(score.value)
    rows = [TableRow(*key, *_mean_and_half_width(numbers), len(numbers)) for key, numbers in values.items()]
    order = list(study.datasets), list(study.configs)
    rows.sort(key=lambda row: (order[0].index(row.dataset), order[1].index(row.config)))
    for suffix, text in (("csv", _csv(rows)), ("md", markdown(rows)), ("tex", _latex(rows))):
        atomic_write_text(out / f"table.{suffix}", text)
    return rows


def markdown(rows: Sequence[TableRow]) -> str:
    """A table with a row per config and a column per score, in Markdown."""
    header, lines = _wide(rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *lines))


def _cells(study: Study) -> Iterator[Cell]:
    """All runs; all of one seed first, so that a part of a study is a fair comparison."""
    for seed in study.seeds:
        for dataset in study.datasets:
            yield from (Cell(dataset, config, seed) for config in study.configs)


def _load(file: Path, name: str, one: StudyConfig) -> Config:
    path = file.parent / one.config
    try:
        return load_config(path if path.exists() else one.config, one.set)
    except ConfigError as error:
        raise ConfigError(f"{file}, configs.{name}: {error}") from None


def _with_seed(config: Config, seed: int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def _require_same_config(run: RunFolder, config: Config, source: str) -> None:
    if run.config_file.exists() and read_run_config(run) != config:
        raise ConfigError(
            f"{source} is another config than that of {run.path}. Give the new config another name, or remove the run."
        )


def _complete(run: RunFolder, config: Config, dataset: Path) -> None:
    """Train the run, or the rest of it."""
    if not run.path.exists():
        fit.train(config, dataset, run.path)
    elif not run.model_folder.exists():
        fit.resume(run.path, dataset=dataset)
    fit_after_training(run)


def _is_shown(score: Score, names: Sequence[str]) -> bool:
    if not names:
        return score.headline
    return score.name in names or f"{score.name}/{score.mask_class}" in names


def _mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its 95 % interval (Student's t)."""
    if len(values) < 2:
        return values[0], None
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(half)


def _wide(rows: Sequence[TableRow]) -> tuple[list[str], list[list[str]]]:
    scores = list(dict.fromkeys(row.score for row in rows))
    cells = {(row.dataset, row.config, row.score): _format(row) for row in rows}
    lines = dict.fromkeys((row.dataset, row.config, str(row.seeds)) for row in rows)
    header = ["data", "config", "seeds", *scores]
    return header, [[*line, *(cells.get((*line[:2], score), "") for score in scores)] for line in lines]


def _format(row: TableRow) -> str:
    value = format_score(row.mean)
    return value if row.half_width is None else f"{value} ± {format_score(row.half_width)}"


def _csv(rows: Sequence[TableRow]) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("dataset", "config", "score", "mean", "half_width", "seeds"))
    for row in rows:
        half = "" if row.half_width is None else f"{row.half_width:.6g}"
        table.writerow((row.dataset, row.config, row.score, f"{row.mean:.6g}", half, row.seeds))
    return file.getvalue()


def _latex(rows: Sequence[TableRow]) -> str:
    header, lines = _wide(rows)
    body = [" & ".join(map(_escape_latex, cells)) + r" \\" for cells in (header, *lines)]
    columns = "lll" + "r" * (len(header) - 3)
    text = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}"]
    return "\n".join(text) + "\n"


def _escape_latex(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&").replace("±", r"$\pm$")
