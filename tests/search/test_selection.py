"""The Pareto front has the trials that no other trial beats, and each rule selects the trial that it names."""

import re
from typing import Any, Literal

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import create_trial

from mnsa.errors import StudyError
from mnsa.search.selection import pareto_front, parse_rule, select_trial
from mnsa.study_folder import TrialRecord
from narrowing import some


def trial(
    number: int,
    iou: float | None,
    giga_macs: float,
    state: Literal["waiting", "running", "complete", "pruned", "failed"] = "complete",
    **facts: Any,
) -> TrialRecord:
    return TrialRecord(number, number, state, {}, iou=iou, macs=int(giga_macs * 1e9), **facts)


def numbers(trials: list[TrialRecord]) -> list[int]:
    return [trial.number for trial in trials]


CURVE = [trial(0, 0.30, 1.0), trial(1, 0.60, 1.5), trial(2, 0.65, 3.0), trial(3, 0.66, 6.0), trial(4, 0.50, 2.0)]

SCORES = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), min_size=1, max_size=12)


@given(SCORES)
def test_front_equals_that_of_optuna(scores: list[tuple[int, int]]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for iou, macs in scores:
        study.add_trial(create_trial(values=[iou / 8, macs]))
    front = pareto_front([trial(n, i / 8, m) for n, (i, m) in enumerate(scores)], "macs")
    mine = {(t.iou, some(t.macs) / 1e9) for t in front}
    assert mine == {tuple(best.values) for best in study.best_trials}


def test_front_has_only_complete_trials_and_uses_the_given_cost() -> None:
    others = [trial(9, 0.99, 0.1, state="pruned"), trial(8, None, 0.1, state="failed")]
    assert numbers(pareto_front([*CURVE, *others], "macs")) == [0, 1, 2, 3]
    two = [trial(0, 0.5, 1.0, parameters=9), trial(1, 0.4, 2.0, parameters=3)]
    assert numbers(pareto_front(two, "macs")) == [0]
    assert numbers(pareto_front(two, "parameters")) == [1, 0]


def test_best_has_the_best_iou_and_the_lower_cost_of_equals() -> None:
    assert select_trial(CURVE, "best", "macs").number == 3
    assert select_trial([trial(0, 0.5, 2.0), trial(1, 0.5, 1.0)], "best", "macs").number == 1


def test_knee_is_farthest_above_the_line() -> None:
    assert select_trial(CURVE, "knee", "macs").number == 1


def test_knee_is_the_best_trial_if_no_trial_is_above_the_line() -> None:
    assert select_trial(CURVE[:2], "knee", "macs").number == 1
    straight = [trial(n, 0.1 * n, 1.0 + n) for n in range(5)]
    hollow = [trial(0, 0.1, 1.0), trial(1, 0.15, 2.0), trial(2, 0.9, 3.0)]
    assert select_trial(hollow, "knee", "macs").number == 2
    assert some(select_trial(straight, "knee", "macs").iou) > 0


@pytest.mark.parametrize(("budget", "number"), [("1", 0), ("1.4", 0), ("2.5", 1), ("3.0", 2), ("99", 3)])
def test_under_selects_the_best_trial_below_the_limit(budget: str, number: int) -> None:
    assert select_trial(CURVE, f"under={budget}", "parameters").number == number


def test_limit_below_every_trial_names_the_smallest() -> None:
    with pytest.raises(StudyError, match=r"No complete trial has 0\.5 GMACs or fewer; the smallest has 1\."):
        select_trial(CURVE, "under=0.5", "macs")


def test_error_without_a_complete_trial_has_the_reasons() -> None:
    failed = [trial(n, None, 1.0, state="failed", reason="OutOfMemoryError: 3 GiB") for n in range(3)]
    with pytest.raises(StudyError, match=re.escape("so none can be selected. Reasons: OutOfMemoryError: 3 GiB.")):
        select_trial(failed, "best", "macs")


@pytest.mark.parametrize("rule", ["", "worst", "under", "under=", "under=-1", "under=0", "under=nan", "under=2GMACs"])
def test_invalid_rule_is_refused(rule: str) -> None:
    with pytest.raises(StudyError, match="expected best, knee, or under=GMACS"):
        parse_rule(rule)
