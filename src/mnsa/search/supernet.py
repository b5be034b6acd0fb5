"""A study by one training: train the widest network with all its slices, score the slices, select one.

The files are those of a study of trials; a scored slice takes the place of a trial. trials.json is the only memory of
the scores: an interrupted search goes on from it. One process searches; others are refused.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mnsa.config import Config, load_config
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.errors import StudyError
from mnsa.io import lock, lock_owner
from mnsa.model.backbone import Backbone
from mnsa.model.network import decoder_channels, network_cost
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder
from mnsa.search.evolution import is_exhaustive, next_point
from mnsa.search.results import SearchResult, write_best_config
from mnsa.search.selection import pareto_front, parse_rule, select_trial
from mnsa.search.slice_scores import SliceScorer
from mnsa.search.space import Point, SearchSpace, apply_point, build_search_space, widest_config
from mnsa.search.study import (
    StudySettings,
    check_new_study,
    read_study_settings,
    require_method,
    write_study_folder,
)
from mnsa.search.supernet_module import SupernetModule, WidthSampler
from mnsa.search.trial import is_trained, make_trial_config, measure_latency_ms, train_or_resume, train_shared_stages
from mnsa.search.worker import SearchInterruptedError
from mnsa.signals import StopSignal, stop_signals
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, read_study_record, write_study_record
from mnsa.training.fit import TrainingInterruptedError

DEFAULT_SLICES = 300  # scored by a search that does not say how many
REJECTION_MARGIN = 0.02  # IoU below that of a slice that costs no more, after the first part of the validation images
LOG_EVERY = 20  # slices; one on the front is always logged

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupernetStudy:
    """An open study by one training. budget: number of slices that it will score."""

    folder: StudyFolder
    config: Config
    manifest: Manifest
    space: SearchSpace
    budget: int
    rule: str

    @property
    def cost(self) -> str:
        """The cost of the Pareto front: the second objective, or else the multiply-adds."""
        return self.config.search.objectives[-1] if len(self.config.search.objectives) > 1 else "macs"

    def read_record(self) -> StudyRecord:
        """Read trials.json; an empty record if no slice was scored yet. Raises: StudyError."""
        search = self.config.search
        if not self.folder.trials_file.exists():
            name = "exhaustive" if is_exhaustive(self.space, self.budget) else "evolution"
            return StudyRecord(
                self.folder.path.resolve().name, name, "none", self.budget, self.cost, self.config.data.size, (), {},
                (), selection_rule=self.rule, method=search.method,
            )  # fmt: skip
        try:
            return read_study_record(self.folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{self.folder.trials_file} is damaged ({error!r}). Remove it, and score the slices again: "
                f"mnsa search --join {self.folder.path}"
            ) from None

    def write_record(self, record: StudyRecord, trials: Sequence[TrialRecord]) -> StudyRecord:
        """Write trials.json with these slices and their Pareto front. Returns: what was written."""
        front = tuple(trial.number for trial in pareto_front(trials, self.cost))
        record = replace(record, trials=tuple(trials), front=front, budget=self.budget)
        write_study_record(self.folder, record)
        return record

    def make_scorer(self) -> SliceScorer:
        """Load the trained supernet. Raises: RunError if it is damaged or not trained yet."""
        widest, _ = load_network(self.folder.supernet_folder)
        return SliceScorer(widest, self.config, self.manifest)


def create_supernet_study(
    config: Config, dataset: Path, out: Path, *, slices: int | None = None, rule: str = "best"
) -> SupernetStudy:
    """Create a study folder. slices: the budget. rule: how a slice will be selected.

    Raises: StudyError, ConfigError, DataError, ModelError for bad input, before anything is created.
    """
    manifest = check_new_study(config, dataset, out, rule)
    settings = StudySettings(out.resolve().name, "", slices or DEFAULT_SLICES, rule)
    write_study_folder(StudyFolder(out), config, manifest, settings)
    return open_supernet_study(out)


def open_supernet_study(path: Path, *, slices: int | None = None) -> SupernetStudy:
    """Open the study of a folder. slices: a higher budget.

    Raises: StudyError if the folder is no study, or one of trials, or has a higher budget already.
    """
    folder = StudyFolder(path)
    settings = read_study_settings(folder)
    config, manifest = load_config(folder.config_file), read_manifest(folder.data_folder)
    require_method(folder, config.search.method, "supernet")
    space = build_search_space(config)
    study = SupernetStudy(folder, config, manifest, space, settings.trials, settings.select)
    budget = study.read_record().budget
    if slices is not None and slices < budget:
        raise StudyError(f"Study {settings.name!r} has a budget of {budget} slices; --trials {slices} can't lower it.")
    return replace(study, budget=slices or budget)


def run_supernet(study: SupernetStudy) -> None:
    """Train what is not trained yet, and score slices until the budget is used up.

    Raises: StudyError if another process searches; SearchInterruptedError after a signal; the errors of training.
    """
    folder, config = study.folder, study.config
    try:
        with stop_signals(), _only_process(study):
            train_shared_stages(folder, config, study.manifest)
            _train(study)
            _score_slices(study)
    except (KeyboardInterrupt, StopSignal, TrainingInterruptedError) as stop:
        raise SearchInterruptedError(
            "Interrupted. Complete epochs and scored slices are saved. Continue with: mnsa search --join "
            f"{folder.path}",
            getattr(stop, "exit_code", 130),
        ) from None


def select_slice(study: SupernetStudy, rule: str | None = None) -> SearchResult:
    """Select a slice, and write best.toml and trials.json. rule: None: the last one used. Raises: StudyError."""
    if rule is not None:
        parse_rule(rule)
    record = study.read_record()
    rule = rule or record.selection_rule
    trial = select_trial(record.trials, rule, record.cost)
    record = study.write_record(replace(record, selected=trial.number, selection_rule=rule), record.trials)
    write_best_config(study.folder, study.config, record, trial)
    return SearchResult(trial, record)


def make_widest_config(config: Config, space: SearchSpace) -> Config:
    """Return the config of the supernet's widest network."""
    with torch.device("meta"):  # shapes, no weights
        channels = Backbone(config.model.backbone).channels
    paper = config.model.model_copy(update={"decoder_channels": "paper"})
    return widest_config(config, space, decoder_channels(paper, channels))


def _train(study: SupernetStudy) -> None:
    folder, run = study.folder, RunFolder(study.folder.supernet_folder)
    if is_trained(run):
        return
    logger.info("Training the widest network and its slices: %s networks at once.", f"{study.space.num_points:,}")
    config = make_trial_config(folder, make_widest_config(study.config, study.space))
    module = partial(SupernetModule, widths=WidthSampler(study.config, study.space))
    train_or_resume(folder, run, config, study.manifest, module)


def _score_slices(study: SupernetStudy) -> None:
    record, search = study.read_record(), study.config.search
    trials = list(record.trials)
    point = next_point(study.space, study.budget, search.seed, trials, study.cost)
    if point is None:
        return
    scorer, start, before = study.make_scorer(), time.perf_counter(), len(trials)
    while point is not None:
        trials.append(_score(study, scorer, point, trials))
        record = study.write_record(record, trials)
        if trials[-1].number in record.front or len(trials) % LOG_EVERY == 0:
            seconds = (time.perf_counter() - start) / (len(trials) - before)
            logger.info(_progress_line(study, trials[-1], len(trials), seconds))
        point = next_point(study.space, study.budget, search.seed, trials, study.cost)


def _score(study: SupernetStudy, scorer: SliceScorer, point: Point, trials: Sequence[TrialRecord]) -> TrialRecord:
    """Score the slice of a point. It is rejected early if a slice that costs no more is clearly better."""
    start, model = time.perf_counter(), apply_point(study.config, point).model
    classes = len(study.manifest.classes) if "classification" in study.config.tasks else 0
    shape = model, classes, len(study.manifest.mask_classes), study.config.data.size
    cost, extra = network_cost(*shape), dict[str, Any]()
    if "latency" in study.config.search.objectives:
        extra["latency_ms"] = measure_latency_ms(*shape)
    slice_ = TrialRecord(
        len(trials), len(trials), "complete", point, parameters=cost.parameters, macs=cost.macs, **extra
    )
    limit = slice_.cost(study.cost)
    cheaper = [trial.curve[0] for trial in trials if trial.curve and trial.cost(study.cost) <= limit]
    score = scorer.score(model, max(cheaper, default=0.0) - REJECTION_MARGIN)
    seconds = time.perf_counter() - start
    if score.iou is None:
        reason = "clearly worse than a slice that costs no more"
        return replace(
            slice_, state="pruned", iou=score.first_part, curve=(score.first_part,), seconds=seconds, reason=reason
        )
    curve = () if math.isnan(score.first_part) else (score.first_part, score.iou)  # JSON has no NaN
    return replace(slice_, iou=score.iou, curve=curve, seconds=seconds)


def _progress_line(study: SupernetStudy, trial: TrialRecord, done: int, seconds: float) -> str:
    state = "rejected" if trial.state == "pruned" else f"IoU {trial.iou:.4f}"
    left = seconds * max(0, min(study.budget, study.space.num_points) - done)
    rest = f", at most {left / 60:.0f} min left" if left >= 60 else ""
    return (
        f"slice {trial.number}  {state}  {(trial.macs or 0) / 1e9:.4g} GMACs  {(trial.parameters or 0) / 1e6:.4g} M "
        f"parameters  {done} scored{rest}"
    )


@contextmanager
def _only_process(study: SupernetStudy) -> Iterator[None]:
    path = study.folder.lock_file("supernet")
    try:
        with lock(path, timeout_s=0, names_owner=True):
            yield
    except TimeoutError:
        raise StudyError(
            f"{study.folder.path} is being searched by {lock_owner(path)}. A supernet is trained by one process: wait "
            "until it ends, or stop it."
        ) from None
