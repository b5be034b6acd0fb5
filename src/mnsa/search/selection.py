"""Select a trial: the Pareto front of IoU against a cost, and the rules that select one point of it."""

from collections.abc import Sequence

from mnsa.errors import StudyError
from mnsa.study_folder import TrialRecord

SELECTION_RULES = "best, knee, or under=GMACS such as under=1.5"


def pareto_front(trials: Sequence[TrialRecord], cost: str) -> list[TrialRecord]:
    """The complete trials that no other one beats in IoU without costing more, the cheapest first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    front: list[TrialRecord] = []
    for trial in sorted(complete, key=lambda trial: (trial.cost(cost), -_iou_or_minus_one(trial), trial.number)):
        if not front or _iou_or_minus_one(trial) > _iou_or_minus_one(front[-1]):
            front.append(trial)
    return front


def parse_rule(rule: str) -> float | None:
    """Check a rule. Returns: the budget of `under=`, in multiply-adds, or None. Raises: StudyError."""
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
    """Choose a trial: `best` IoU, the `knee` of the front, or the best `under=` so many GMACs.

    cost: what the front weighs IoU against. Raises: StudyError when nothing is complete or the budget is too small.
    """
    front = pareto_front(trials, cost)
    if not front:
        raise StudyError(f"No trial of the study is complete, so there is nothing to select.{_failure_reasons(trials)}")
    budget = parse_rule(rule)
    if budget is not None:
        return _best_under_budget(trials, budget)
    return front[-1] if rule == "best" else _knee_point(front, cost)


def _best_under_budget(trials: Sequence[TrialRecord], budget: float) -> TrialRecord:
    front = pareto_front(trials, "macs")
    affordable = [trial for trial in front if trial.cost("macs") <= budget]
    if not affordable:
        raise StudyError(
            f"No complete trial has {budget / 1e9:g} GMACs or fewer; the smallest has "
            f"{front[0].cost('macs') / 1e9:.4g}. Raise the budget, or let the study go on with more --trials."
        )
    return affordable[-1]


def _knee_point(front: Sequence[TrialRecord], cost: str) -> TrialRecord:
    """The trial farthest above the line from the cheapest to the best; the best where none is above it."""
    low, high = front[0], front[-1]
    if len(front) < 3:
        return high
    gain, price = _iou_or_minus_one(high) - _iou_or_minus_one(low), high.cost(cost) - low.cost(cost)

    def height(trial: TrialRecord) -> float:
        return (_iou_or_minus_one(trial) - _iou_or_minus_one(low)) / gain - (trial.cost(cost) - low.cost(cost)) / price

    knee = max(front, key=height)
    return knee if height(knee) > 0 else high


def _iou_or_minus_one(trial: TrialRecord) -> float:
    return -1.0 if trial.iou is None else trial.iou


def _failure_reasons(trials: Sequence[TrialRecord]) -> str:
    reasons = list(dict.fromkeys(trial.reason for trial in trials if trial.reason))
    return f" What happened: {'; '.join(reasons[:3])}." if reasons else ""
