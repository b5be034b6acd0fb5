"""The trials of a study as plain records, for found.toml, the report, and whoever has no Optuna."""

import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mnsa.search.pick import pareto_front
from mnsa.search.queue import INDEX, REASON
from mnsa.search.study import PICKED, Study
from mnsa.search.trial import CURVE
from mnsa.study_folder import State, StudyRecord, TrialRecord

BEST_QUARTER = 0.25
FEWEST_FOR_IMPORTANCE = 8  # complete trials, so that a quarter is two
_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def records_of(study: Study) -> tuple[TrialRecord, ...]:
    """Every attempt so far, in the order of their numbers."""
    return tuple(record_of(trial) for trial in study.optuna.get_trials(deepcopy=False))


def snapshot(study: Study) -> StudyRecord:
    """The study as it stands."""
    search, trials = study.config.search, records_of(study)
    rule, number = study.optuna.user_attrs.get(PICKED) or ("", None)
    return StudyRecord(
        name=study.name,
        sampler=search.sampler,
        pruner=search.pruner,
        budget=study.queue.budget,
        cost=study.cost,
        size=study.config.data.size,
        trials=trials,
        importances=_importances(study.optuna, trials),
        front=tuple(trial.number for trial in pareto_front(trials, study.cost)),
        picked=number,
        picked_as=rule,
    )


def record_of(trial: FrozenTrial) -> TrialRecord:
    """One attempt as a plain record."""
    known, state = trial.user_attrs, _STATES[trial.state]
    curve = tuple(known.get(CURVE, ()))
    iou = trial.values[0] if state == "complete" and trial.values else curve[-1] if curve else None
    facts = ("parameters", "macs", "latency_ms", "peak_memory_mib", "seconds")
    return TrialRecord(
        trial.number, known.get(INDEX, -1), state, trial.params, iou, curve,
        **{name: known.get(name) for name in facts}, reason=known.get(REASON, ""),
    )  # fmt: skip


def _importances(study: optuna.Study, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """What it takes to be among the best quarter in IoU: each choice's share; {} where too few trials are complete.

    Source: S. Watanabe et al., "PED-ANOVA", IJCAI 2023.
    """
    scores = [trial.iou for trial in trials if trial.state == "complete"]
    if len(scores) < FEWEST_FOR_IMPORTANCE or len(set(scores)) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*low `target` values")  # which is why IoU is negated
        evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST_QUARTER)
        return get_param_importances(study, evaluator=evaluator, target=lambda trial: -trial.values[0])
