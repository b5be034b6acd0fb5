"""The results of a study: its trials as plain records, and best.toml, the config of the selected trial."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mnsa.config import Config, dump_config
from mnsa.io import atomic_write_text, lock
from mnsa.search.selection import pareto_front, parse_rule, select_trial
from mnsa.search.space import apply_point
from mnsa.search.study import SELECTED_ATTR, SearchStudy
from mnsa.search.trial import CURVE_ATTR
from mnsa.search.trial_queue import INDEX_ATTR, REASON_ATTR
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, TrialStatus, write_study_record

TOP_FRACTION = 0.25

MIN_TRIALS_FOR_IMPORTANCE = 8  # complete trials: the top fraction then has two

_STATUS_NAMES: dict[TrialState, TrialStatus] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}

_CAVEATS = {
    "trials": "It is the best of many trainings: expect less of a new one.",
    "supernet": "It is that of a slice of one network: a training of its own gives another one.",
}


class SearchResult(NamedTuple):
    """The selected trial, and the study with all trials."""

    trial: TrialRecord
    study: StudyRecord


def write_best(study: SearchStudy, rule: str | None = None) -> SearchResult:
    """Select a trial, and write best.toml and trials.json. rule: None: the last one used. Raises: StudyError."""
    if rule is not None:
        parse_rule(rule)
    with lock(study.folder.lock_file("results")):  # all workers end at the same time
        record = make_study_record(study)
        rule = rule or record.selection_rule
        trial = select_trial(record.trials, rule, record.cost)
        study.optuna.set_user_attr(SELECTED_ATTR, [rule, trial.number])
        record = make_study_record(study)
        write_study_record(study.folder, record)
        write_best_config(study.folder, study.config, record, trial)
    return SearchResult(trial, record)


def write_best_config(folder: StudyFolder, config: Config, record: StudyRecord, trial: TrialRecord) -> None:
    """Write best.toml: the config of a trial, with what is known of it in comments."""
    comments = "".join(f"# {line}\n" for line in _header_comments(folder, record, trial))
    atomic_write_text(folder.best_file, f"{comments}\n{dump_config(apply_point(config, trial.point))}")


def update_trials_file(study: SearchStudy) -> StudyRecord:
    """Write trials.json with the current state of the study."""
    with lock(study.folder.lock_file("results")):
        record = make_study_record(study)
        write_study_record(study.folder, record)
    return record


def make_study_record(study: SearchStudy) -> StudyRecord:
    """Make a record of the current state of the study."""
    search, trials = study.config.search, trial_records(study)
    rule, number = study.optuna.user_attrs.get(SELECTED_ATTR) or ("", None)
    return StudyRecord(
        name=study.name,
        sampler=search.sampler,
        pruner=search.pruner,
        budget=study.queue.budget,
        cost=study.cost,
        size=study.config.data.size,
        trials=trials,
        importances=_param_importances(study.optuna, trials),
        front=tuple(trial.number for trial in pareto_front(trials, study.cost)),
        selected=number,
        selection_rule=rule,
    )


def trial_records(study: SearchStudy) -> tuple[TrialRecord, ...]:
    """Make the records of all attempts so far, by number."""
    return tuple(make_trial_record(trial) for trial in study.optuna.get_trials(deepcopy=False))


def make_trial_record(trial: FrozenTrial) -> TrialRecord:
    """Make the record of one attempt."""
    attrs, state = trial.user_attrs, _STATUS_NAMES[trial.state]
    curve = tuple(attrs.get(CURVE_ATTR, ()))
    iou = trial.values[0] if state == "complete" and trial.values else curve[-1] if curve else None
    cost_names = ("parameters", "macs", "latency_ms", "peak_memory_mib", "seconds")
    return TrialRecord(
        trial.number, attrs.get(INDEX_ATTR, -1), state, trial.params, iou, curve,
        **{name: attrs.get(name) for name in cost_names}, reason=attrs.get(REASON_ATTR, ""),
    )  # fmt: skip


def _param_importances(study: optuna.Study, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """Compute how much each parameter decides whether a trial is in the top quarter by IoU; {} for few trials.

    Source: S. Watanabe et al., "PED-ANOVA", IJCAI 2023.
    """
    scores = [trial.iou for trial in trials if trial.state == "complete"]
    if len(scores) < MIN_TRIALS_FOR_IMPORTANCE or len(set(scores)) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*low `target` values")  # so the IoU is negated
        evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP_FRACTION)
        return get_param_importances(study, evaluator=evaluator, target=lambda trial: -trial.values[0])


def _header_comments(folder: StudyFolder, record: StudyRecord, trial: TrialRecord) -> list[str]:
    height, width = record.size
    counts = ", ".join(f"{len(record.with_status(state))} {state}" for state in ("complete", "pruned", "failed"))
    return [
        f"mnsa train {folder.best_file} --data DATASET --out RUN",
        f"Study {record.name!r} ({record.sampler}; attempts: {counts}): trial {trial.number}, selected as "
        f"{record.selection_rule}.",
        f"Validation IoU {trial.iou:.4f}. {_CAVEATS[record.method]}",
        f"{trial.parameters:,} parameters; {(trial.macs or 0) / 1e9:.4g} GMACs for one image of {height} x {width} px.",
        "Point: " + ", ".join(f"{name} = {value}" for name, value in trial.point.items()),
    ]
