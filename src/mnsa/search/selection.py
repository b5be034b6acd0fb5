"""Select a trial: the Pareto front of IoU and a cost, and the rules that select one trial of it."""

from collections.abc import Sequence

from mnsa.errors import StudyError
from mnsa.study_folder import TrialRecord

SELECTION_RULES = "best, knee, or under=GMACS such as under=1.5"


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
