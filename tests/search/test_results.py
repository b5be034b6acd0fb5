"""Picking: the front is what no trial beats, and each rule takes the point it promises."""

import re
from collections.abc import Callable
from typing import Any, Literal

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from mnsa.errors import StudyError
from mnsa.search.results import MIN_TRIALS_FOR_IMPORTANCE, make_study_record, pareto_front, parse_rule, select_trial
from mnsa.search.study import SearchStudy
from mnsa.study_folder import TrialRecord


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
    mine = {
        (t.iou, t.macs / 1e9) for t in pareto_front([trial(n, i / 8, m) for n, (i, m) in enumerate(scores)], "macs")
    }
    assert mine == {tuple(best.values) for best in study.best_trials}


def test_front_has_only_complete_trials_and_uses_the_given_cost() -> None:
    others = [trial(9, 0.99, 0.1, state="pruned"), trial(8, None, 0.1, state="failed")]
    assert numbers(pareto_front([*CURVE, *others], "macs")) == [0, 1, 2, 3]
    some = [trial(0, 0.5, 1.0, parameters=9), trial(1, 0.4, 2.0, parameters=3)]
    assert numbers(pareto_front(some, "macs")) == [0]
    assert numbers(pareto_front(some, "parameters")) == [1, 0]


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
    assert select_trial(straight, "knee", "macs").iou > 0


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


@pytest.fixture
def told(new_study: Callable[..., SearchStudy]) -> Callable[..., SearchStudy]:
    """A study that was told what its first trials scored, by a function of their points."""

    def tell(trials: int, score: Any, *, objectives: tuple[str, ...] = ("iou",)) -> SearchStudy:
        study = new_study(trials=1, search={"objectives": objectives, "pruner": "none"})
        distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in study.space.choices.items()
        }
        for index, point in enumerate(study.plan.points[:trials]):
            values = [score(point), *(1e9 for _ in objectives[1:])]
            trial = create_trial(
                params=dict(point),
                distributions=distributions,
                values=values,
                user_attrs={"index": index},
            )
            study.optuna.add_trial(trial)
        return study

    return tell


@pytest.mark.parametrize("objectives", [("iou",), ("iou", "macs")])
def test_decisive_parameter_is_the_most_important(
    told: Callable[..., SearchStudy], objectives: tuple[str, ...]
) -> None:
    study = told(100, lambda point: 0.3 + point["deform3"] + point["atrous2"] / 100, objectives=objectives)
    shares = make_study_record(study).importances
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "deform3"
    assert shares["deform3"] > 0.5


@pytest.mark.parametrize(
    ("trials", "score"), [(MIN_TRIALS_FOR_IMPORTANCE - 1, lambda point: point["deform3"]), (20, lambda point: 0.5)]
)
def test_importances_are_empty_for_few_or_equal_trials(
    told: Callable[..., SearchStudy], trials: int, score: Callable[..., Any]
) -> None:
    assert make_study_record(told(trials, score)).importances == {}


def test_record_has_the_state_of_the_study(told: Callable[..., SearchStudy]) -> None:
    record = make_study_record(told(3, lambda point: point["deform3"]))
    assert (record.name, record.sampler, record.pruner, record.budget) == ("study", "tpe", "none", 1)
    assert (record.cost, record.size, record.selected, record.selection_rule) == ("macs", (64, 64), None, "best")
    assert [trial.iou for trial in record.trials] == [trial.point["deform3"] for trial in record.trials]
