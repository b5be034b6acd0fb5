"""The results of a study: its trials as plain records, the Pareto front, and best.toml of the selected trial."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mnsa.config import dump_config
from mnsa.errors import StudyError
from mnsa.io import atomic_write_text, lock
from mnsa.search.space import apply_point
from mnsa.search.study import SELECTED_ATTR, SearchStudy
from mnsa.search.trial import CURVE_ATTR
from mnsa.search.trial_queue import INDEX_ATTR, REASON_ATTR
from mnsa.study_folder import StudyRecord, TrialRecord, TrialStatus, write_study_record

SELECTION_RULES = "best, knee, or under=GMACS such as under=1.5"
TOP_FRACTION = 0.25
MIN_TRIALS_FOR_IMPORTANCE = 8  # complete trials: the top fraction then has two
_STATUS_NAMES: dict[TrialState, TrialStatus] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def pareto_front(trials: Sequence[TrialRecord], cost: str) -> list[TrialRecord]:
    """Return the complete trials for which no other trial has a better IoU at the same or a lower cost, by cost."""
    complete = [trial for trial in trials if trial.state == "complete"]
    front: list[TrialRecord] = []
    for trial in sorted(complete, key=lambda trial: (trial.cost(cost), -_iou(trial), trial.number)):
        if not front or _iou(trial) > _iou(front[-1]):
            front.append(trial)
    return front


def parse_rule(rule: str) -> float | None:
    """Validate a rule. Returns: the limit of `under=` in multiply-adds, or None. Raises: StudyError."""
    if rule in ("best", "knee"):
        return None
    name, _, text = rule.partition("=")
    try:
        giga = float(text)
    except ValueError:
        giga = 0.0
    if name != "under" or not giga > 0:
        raise StudyError(f"--select is {rule!r}; expected {SELECTION_RULES}.")
    return giga * 1e9


def select_trial(trials: Sequence[TrialRecord], rule: str, cost: str) -> TrialRecord:
    """Select the trial with the `best` IoU, at the `knee` of the front, or the best one `under=` a number of GMACs.

    cost: the second axis of the front. Raises: StudyError if no trial is complete or the limit is too low.
    """
    front = pareto_front(trials, cost)
    if not front:
        raise StudyError(f"No trial of the study is complete, so none can be selected.{_failure_reasons(trials)}")
    max_macs = parse_rule(rule)
    if max_macs is not None:
        return _best_under(trials, max_macs)
    return front[-1] if rule == "best" else _knee_point(front, cost)


def _best_under(trials: Sequence[TrialRecord], max_macs: float) -> TrialRecord:
    front = pareto_front(trials, "macs")
    affordable = [trial for trial in front if trial.cost("macs") <= max_macs]
    if not affordable:
        raise StudyError(
            f"No complete trial has {max_macs / 1e9:g} GMACs or fewer; the smallest has "
            f"{front[0].cost('macs') / 1e9:.4g}. Raise the limit, or continue the study with more --trials."
        )
    return affordable[-1]


def _knee_point(front: Sequence[TrialRecord], cost: str) -> TrialRecord:
    """Return the trial farthest above the line from the cheapest to the best trial; the best if none is above it."""
    low, high = front[0], front[-1]
    if len(front) < 3:
        return high
    iou_range, cost_range = _iou(high) - _iou(low), high.cost(cost) - low.cost(cost)

    def height(trial: TrialRecord) -> float:
        return (_iou(trial) - _iou(low)) / iou_range - (trial.cost(cost) - low.cost(cost)) / cost_range

    knee = max(front, key=height)
    return knee if height(knee) > 0 else high


def _iou(trial: TrialRecord) -> float:
    """Return the IoU; below every IoU if it is not known."""
    return -1.0 if trial.iou is None else trial.iou


def _failure_reasons(trials: Sequence[TrialRecord]) -> str:
    reasons = list(dict.fromkeys(trial.reason for trial in trials if trial.reason))
    return f" Reasons: {'; '.join(reasons[:3])}." if reasons else ""


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
        comments = "".join(f"# {line}\n" for line in _header_comments(study, record, trial))
        atomic_write_text(study.folder.best_file, f"{comments}\n{dump_config(apply_point(study.config, trial.point))}")
    return SearchResult(trial, record)


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


def _header_comments(study: SearchStudy, record: StudyRecord, trial: TrialRecord) -> list[str]:
    height, width = record.size
    counts = ", ".join(f"{len(record.with_status(state))} {state}" for state in ("complete", "pruned", "failed"))
    return [
        f"mnsa train {study.folder.best_file} --data DATASET --out RUN",
        f"Study {record.name!r} ({record.sampler}; attempts: {counts}): trial {trial.number}, selected as "
        f"{record.selection_rule}.",
        f"Validation IoU {trial.iou:.4f}. It is the best of many trainings: expect less of a new one.",
        f"{trial.parameters:,} parameters; {(trial.macs or 0) / 1e9:.4g} GMACs for one image of {height} x {width} px.",
        "Point: " + ", ".join(f"{name} = {value}" for name, value in trial.point.items()),
    ]
