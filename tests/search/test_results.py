"""The record of a study has its trials, its state and the importance of its parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from mnsa.search.results import MIN_TRIALS_FOR_IMPORTANCE, make_study_record
from mnsa.search.study import SearchStudy


@pytest.fixture
def told(new_study: Callable[..., SearchStudy], tmp_path: Path) -> Callable[..., SearchStudy]:
    """A study that was told what its first trials scored, by a function of their points."""
    storage = f"journal:{tmp_path}/trials.log"  # SQLite takes 20 ms for a trial

    def tell(trials: int, score: Any, *, objectives: tuple[str, ...] = ("iou",)) -> SearchStudy:
        study = new_study(trials=1, storage=storage, search={"objectives": objectives, "pruner": "none"})
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
    study = told(50, lambda point: 0.3 + point["deform3"] + point["atrous2"] / 100, objectives=objectives)
    shares = make_study_record(study).importances
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "deform3"
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
