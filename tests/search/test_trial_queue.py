"""The queue runs exactly the budgeted trials, also when workers die, on every kind of storage."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mnsa.search.sampling import SamplingPlan
from mnsa.search.storage import open_storage
from mnsa.search.trial_queue import (
    BUDGET_ATTR,
    INDEX_ATTR,
    INTERRUPTED_ATTR,
    WORKER_ATTR,
    LivenessMonitor,
    TrialQueue,
    set_trial_attr,
    worker_identity,
)
from narrowing import instance_of, some

DRAWN = SamplingPlan((), num_listed=0, max_trials=None)  # a sampler draws every point


class FixedLiveness(LivenessMonitor):
    """Declares the workers of the trials in `dead` dead."""

    def __init__(self) -> None:
        self.dead: set[int] = set()

    def death_reason(self, trial: FrozenTrial) -> str:
        return "process 7 on oak died" if trial.number in self.dead else ""


@pytest.fixture
def queue_of(storage_url: Any, tmp_path: Path) -> Callable[..., TrialQueue]:
    """Another worker's queue of one and the same study."""
    optuna.create_study(study_name="s", storage=open_storage(storage_url)).set_user_attr(BUDGET_ATTR, 3)

    def connect(plan: SamplingPlan = DRAWN) -> TrialQueue:
        study = optuna.load_study(study_name="s", storage=open_storage(storage_url))
        return TrialQueue(study, tmp_path / "queue.lock", FixedLiveness(), plan)

    return connect


def trials_of(queue: TrialQueue) -> list[FrozenTrial]:
    return queue._study.get_trials(deepcopy=False)


def indices(queue: TrialQueue, *states: TrialState) -> list[Any]:
    return [trial.user_attrs[INDEX_ATTR] for trial in trials_of(queue) if not states or trial.state in states]


def claim(queue: TrialQueue) -> optuna.Trial:
    """Claim a trial from a queue that has one waiting."""
    return some(queue.claim())


def declare_dead(queue: TrialQueue, trial: optuna.Trial) -> None:
    instance_of(FixedLiveness, queue._liveness).dead.add(trial.number)


def test_each_trial_of_the_budget_is_claimed_once(queue_of: Callable[..., TrialQueue]) -> None:
    first, second = queue_of(), queue_of()
    claimed = [claim(queue) for queue in (first, second, first)]
    assert sorted(trial.user_attrs[INDEX_ATTR] for trial in claimed) == [0, 1, 2]
    assert all(trial.user_attrs[WORKER_ATTR] == worker_identity() for trial in trials_of(first))
    assert first.claim() is second.claim() is None
    assert first.count_unfinished() == 3
    for trial, queue in zip(claimed, (second, first, second), strict=True):
        queue.finish(trial, TrialState.COMPLETE, [0.5])
    assert first.count_unfinished() == 0
    assert first.claim() is None
    assert len(trials_of(first)) == 3


def test_higher_budget_adds_trials_and_lower_one_nothing(queue_of: Callable[..., TrialQueue]) -> None:
    queue = queue_of()
    queue.increase_budget(2)
    assert queue.budget == 3
    for _ in range(3):
        queue.finish(claim(queue), TrialState.COMPLETE, [0.5])
    queue.increase_budget(4)
    assert claim(queue).user_attrs[INDEX_ATTR] == 3


def test_failed_trial_is_tried_twice_more_with_the_same_point(queue_of: Callable[..., TrialQueue]) -> None:
    queue = queue_of()
    queue._study.set_user_attr(BUDGET_ATTR, 1)
    drawn = []
    for attempt in range(3):
        trial = claim(queue)
        drawn.append(trial.suggest_categorical("deform3", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]))
        assert (trial.number, trial.user_attrs[INDEX_ATTR]) == (attempt, 0)
        assert queue.count_unfinished() == 1
        queue.finish(trial, TrialState.FAIL)
    assert len(set(drawn)) == 1
    assert queue.claim() is None
    assert queue.count_unfinished() == 0


def test_interrupted_trial_is_always_queued_again(queue_of: Callable[..., TrialQueue]) -> None:
    queue = queue_of()
    queue._study.set_user_attr(BUDGET_ATTR, 1)
    for _ in range(5):
        trial = claim(queue)
        set_trial_attr(queue._study, trial, INTERRUPTED_ATTR, True)
        queue.finish(trial, TrialState.FAIL)
    assert queue.count_unfinished() == 1
    assert queue.claim() is not None


def test_trial_of_a_dead_worker_fails_with_the_reason_and_is_queued_again(queue_of: Callable[..., TrialQueue]) -> None:
    alive, dead = queue_of(), queue_of()
    lost = claim(dead)
    declare_dead(alive, lost)
    claimed = [claim(alive) for _ in range(3)]
    assert sorted(trial.user_attrs[INDEX_ATTR] for trial in claimed) == [0, 1, 2]
    frozen = trials_of(alive)[lost.number]
    assert (frozen.state, frozen.user_attrs["reason"]) == (TrialState.FAIL, "process 7 on oak died")


def test_result_of_a_worker_declared_dead_is_not_counted(queue_of: Callable[..., TrialQueue]) -> None:
    slow, other = queue_of(), queue_of()
    trial = claim(slow)
    declare_dead(other, trial)
    again = [claim(other) for _ in range(3)]
    assert slow.finish(trial, TrialState.COMPLETE, [0.9]).state == TrialState.FAIL
    for own in again:
        other.finish(own, TrialState.COMPLETE, [0.5])
    assert Counter(indices(other, TrialState.COMPLETE)) == {0: 1, 1: 1, 2: 1}


def test_worker_that_dies_before_queueing_a_failed_trial_blocks_nothing(queue_of: Callable[..., TrialQueue]) -> None:
    queue = queue_of()
    trial = claim(queue)
    queue._study.tell(trial.number, state=TrialState.FAIL)  # and no more
    assert INDEX_ATTR in trial.user_attrs
    assert sorted(claim(queue_of()).user_attrs[INDEX_ATTR] for _ in range(3)) == [0, 1, 2]


def test_next_worker_completes_a_partly_filled_queue(
    queue_of: Callable[..., TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_of()
    enqueue = optuna.Study.enqueue_trial

    def die_after_the_first(self: Any, *args: Any, **kwargs: Any) -> None:
        enqueue(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "enqueue_trial", die_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        queue.claim()
    monkeypatch.undo()
    assert sorted(claim(queue_of()).user_attrs[INDEX_ATTR] for _ in range(3)) == [0, 1, 2]
    assert len(trials_of(queue)) == 3


def test_listed_points_come_first_and_the_rest_is_sampled(queue_of: Callable[..., TrialQueue]) -> None:
    queue = queue_of(SamplingPlan([{"deform3": 0.2}], num_listed=1, max_trials=None))
    queue.claim(), queue.claim()
    given, drawn = [trial.system_attrs["fixed_params"] for trial in trials_of(queue)[:2]]
    assert (given, drawn) == ({"deform3": 0.2}, {})


def test_grid_ends_after_its_last_point(queue_of: Callable[..., TrialQueue]) -> None:
    points = [{"deform3": ratio} for ratio in (0.1, 0.2)]
    queue = queue_of(SamplingPlan(points, num_listed=2, max_trials=2))
    assert queue.budget == 2
    first = claim(queue)
    queue.finish(first, TrialState.FAIL)  # before it drew anything
    drawn = [(trial := claim(queue)).suggest_categorical("deform3", [0.1, 0.2]) for _ in range(2)]
    assert sorted(drawn) == [0.1, 0.2]
    assert trial.user_attrs[INDEX_ATTR] == 0
    assert queue.claim() is None


def test_six_parallel_workers_claim_twelve_trials_once_each(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    optuna.create_study(study_name="s", storage=open_storage(url)).set_user_attr(BUDGET_ATTR, 12)
    taken, errors = [], []

    def work() -> None:
        try:
            study = optuna.load_study(study_name="s", storage=open_storage(url))
            queue = TrialQueue(study, tmp_path / "queue.lock", FixedLiveness(), DRAWN)
            while (trial := queue.claim()) is not None:
                taken.append(trial.user_attrs[INDEX_ATTR])
                queue.finish(trial, TrialState.COMPLETE, [0.5])
            study._storage.remove_session()
        except BaseException as error:
            errors.append(error)
            raise

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert sorted(taken) == list(range(12))


def test_sqlite_gives_a_waiting_trial_to_one_process_without_the_lock_of_the_queue(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    for _ in range(20):
        study.enqueue_trial({})
    taken: list[Any] = []

    def take() -> None:
        own = optuna.load_study(study_name="s", storage=open_storage(url))
        taken.extend(own.ask().number for _ in range(5))
        own._storage.remove_session()

    workers = [threading.Thread(target=take) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == list(range(20))
