"""A worker trains the trials of the queue, records them, and survives errors of a trial."""

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import load_file

from mnsa.config import Config, load_config
from mnsa.data.manifest import read_manifest
from mnsa.errors import StudyError
from mnsa.metrics.torch_metrics import ValidationScores
from mnsa.model.network import network_cost
from mnsa.model_folder import load_network
from mnsa.search import worker
from mnsa.search.results import trial_records, write_best
from mnsa.search.study import SearchStudy, create_study, join_study
from mnsa.search.worker import SearchInterruptedError, run_worker
from mnsa.study_folder import read_study_record
from mnsa.training.fit import train
from mnsa.training.module import StageModule
from narrowing import some

if TYPE_CHECKING:
    from search.conftest import FakeTraining


TRIALS = 3


@pytest.fixture(autouse=True)
def _log_progress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mnsa")


@pytest.fixture(scope="module")
def searched(
    search_config: Callable[..., Config], dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> SearchStudy:
    """A study that has ended, really trained, pruning nothing. For reading only."""
    config = search_config(search={"pruner": "none"})
    study = create_study(config, dataset, tmp_path_factory.mktemp("studies") / "leaves", trials=TRIALS)
    run_worker(study)
    write_best(study)
    return study


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only briefly for other workers."""
    monkeypatch.setattr(worker, "POLL_S", 0.01)


def states(study: SearchStudy) -> list[str]:
    return [record.state for record in trial_records(study)]


def rows_of(folder: Path) -> list[dict[Any, Any]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


@pytest.mark.slow
def test_every_trial_has_its_curve_its_widths_and_its_costs(searched: SearchStudy) -> None:
    records = trial_records(searched)
    assert [(record.index, record.state) for record in records] == [(n, "complete") for n in range(TRIALS)]
    for record in records:
        rows = rows_of(searched.folder.trial_folder(record.number))
        assert list(record.curve) == pytest.approx([float(row["val_iou"]) for row in rows], abs=1e-4)
        assert record.iou == max(record.curve)
        assert set(record.point) == {"deform3", "deform5", "atrous2", "atrous3", "context"}
        own = load_config(searched.folder.trial_folder(record.number) / "config.toml")
        assert own.model.widths == tuple(record.point.values())
        cost = network_cost(own.model, 3, 1, (64, 64))
        assert (record.parameters, record.macs) == (cost.parameters, cost.macs)
        assert some(record.seconds) > 0
        assert some(record.peak_memory_mib) > 50


def test_the_shared_stage_is_trained_once_and_every_trial_starts_from_it(searched: SearchStudy) -> None:
    assert [row["stage"] for row in rows_of(searched.folder.shared_folder)] == ["first"]
    shared = load_network(searched.folder.shared_folder)[0].state_dict()
    for record in trial_records(searched):
        folder = searched.folder.trial_folder(record.number)
        assert {row["stage"] for row in rows_of(folder)} == {"second"}
        assert load_config(folder / "config.toml").train.init_from == str(searched.folder.shared_folder.resolve())
    network = load_network(searched.folder.trial_folder(write_best(searched).trial.number))[0]
    taken = {name: value for name, value in network.state_dict().items() if name in shared}
    assert {name.split(".")[0] for name in taken} == {"backbone", "attention", "class_head"}
    assert all(torch.equal(value, shared[name]) for name, value in taken.items())


def test_only_networks_on_the_pareto_front_and_no_checkpoints_are_kept(searched: SearchStudy) -> None:
    record = read_study_record(searched.folder)
    kept = {int(path.parent.name) for path in searched.folder.path.glob("trials/*/model")}
    assert kept == set(record.front)
    assert not list(searched.folder.path.glob("trials/*/checkpoints"))
    assert searched.folder.shared_folder.joinpath("checkpoints").exists()


def test_best_config_names_its_trial_and_can_be_trained(searched: SearchStudy, dataset: Path, tmp_path: Path) -> None:
    record = read_study_record(searched.folder)
    best = max(record.trials, key=lambda trial: some(trial.iou))
    comments = [line for line in searched.folder.best_file.read_text().splitlines() if line.startswith("#")]
    assert comments[0].startswith(f"# mnsa train {searched.folder.best_file} ")
    assert any("Study 'leaves'" in line and f"trial {best.number}" in line for line in comments)
    assert any(f"IoU {best.iou:.4f}" in line for line in comments)
    config = load_config(searched.folder.best_file)
    assert config.model.widths == tuple(best.point.values())
    assert (config.stages, config.train) == (searched.config.stages, searched.config.train)
    run = train(config, dataset, tmp_path / "run")
    assert load_file(run.model_folder / "model.safetensors").keys() >= {"attention.score.weight"}
    assert [row["stage"] for row in rows_of(run.path)] == ["first", "second", "second"]


def test_another_selection_from_a_finished_study_trains_nothing(searched: SearchStudy) -> None:
    joined = join_study(searched.folder.path)
    run_worker(joined)
    assert len(trial_records(joined)) == TRIALS
    cheapest = min(trial_records(joined), key=lambda trial: some(trial.macs))
    assert write_best(joined, f"under={some(cheapest.macs) / 1e9}").trial.number == cheapest.number
    assert read_study_record(joined.folder).selected == cheapest.number
    assert write_best(joined).study.selection_rule.startswith("under=")  # the last rule stays
    assert write_best(joined, "best").trial.iou == max(some(record.iou) for record in trial_records(joined))


def test_missing_test_images_change_nothing(
    searched: SearchStudy, search_config: Callable[..., Config], own_dataset: Path, tmp_path: Path
) -> None:
    for row in read_manifest(own_dataset).split("test").rows:
        (own_dataset / row.image).unlink()
        (own_dataset / row.mask).unlink()
    study = create_study(search_config(search={"pruner": "none"}), own_dataset, tmp_path / "study", trials=1)
    run_worker(study)
    same, first = trial_records(study)[0], trial_records(searched)[0]
    assert (same.point, same.curve) == (first.point, first.curve)


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["halving", "median"])
def test_trial_is_pruned_during_training(
    new_study: Callable[..., SearchStudy], monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    joint = {"tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 2}
    study = new_study(joint, trials=2, search={"pruner": pruner, "startup_trials": 1, "grace_period": 1})
    scores = iter([0.5, 0.6, 0.1, 0.7])
    monkeypatch.setattr(
        ValidationScores, "compute", lambda self: dict.fromkeys(("iou", "score"), torch.tensor(next(scores)))
    )
    run_worker(study)
    first, second = trial_records(study)
    assert (first.state, second.state, second.reason) == ("complete", "pruned", "pruned after epoch 1")
    assert (first.iou, *second.curve) == pytest.approx((0.6, 0.1))
    assert len(rows_of(study.folder.trial_folder(1))) == 1


def test_trial_is_not_pruned_in_its_grace_period(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining"
) -> None:
    study = new_study(trials=2, search={"grace_period": 2})
    fake_training.endings = [[0.5, 0.6, 0.7], [0.1, 0.1, 0.9]]
    run_worker(study)
    assert trial_records(study)[1].curve == pytest.approx((0.1, 0.1))


def test_trial_out_of_memory_is_recorded_and_tried_again(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", caplog: pytest.LogCaptureFixture
) -> None:
    study = new_study(trials=1)
    fake_training.endings = [torch.OutOfMemoryError("CUDA out of memory.\nmuch more"), MemoryError(), [0.4]]
    run_worker(study)
    records = trial_records(study)
    assert [record.state for record in records] == ["failed", "failed", "complete"]
    assert records[0].reason == "OutOfMemoryError: CUDA out of memory."
    assert records[0].point == records[2].point
    assert "much more" in (study.folder.trial_folder(0) / "error.txt").read_text()
    assert "failed, will be tried again: OutOfMemoryError: CUDA out of memory." in caplog.text


def test_trial_that_fails_three_times_is_given_up_and_counts_once(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", caplog: pytest.LogCaptureFixture
) -> None:
    study = new_study(trials=2)
    fake_training.endings = [ValueError("odd"), [0.4], ValueError("odd"), ValueError("odd")]
    run_worker(study)
    assert states(study) == ["failed", "complete", "failed", "failed"]
    assert [record.index for record in trial_records(study)] == [0, 1, 0, 0]
    assert "trial 3  failed, given up: ValueError: odd" in caplog.text
    assert write_best(study).trial.number == 1


def test_nothing_is_selected_without_a_complete_trial(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining"
) -> None:
    study = new_study(trials=1)
    fake_training.endings = [ValueError("odd")] * 3
    run_worker(study)
    with pytest.raises(StudyError, match=r"so none can be selected\. Reasons: ValueError: odd"):
        write_best(study)
    assert not study.folder.best_file.exists()


def test_worker_stops_after_many_failures_with_the_reason(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_CONSECUTIVE_FAILURES", 4)
    study = new_study(trials=40)
    fake_training.endings = [OSError("No space left on device")] * 99
    with pytest.raises(StudyError, match="4 attempts in a row failed, the last with: OSError: No space left"):
        run_worker(study)
    assert states(study).count("failed") == 4


def test_network_without_a_branch_is_not_trained(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", monkeypatch: pytest.MonkeyPatch
) -> None:
    study = new_study(trials=2, search={"ratios": (0.0, 0.25)})
    points = iter([dict.fromkeys(study.space.widths, 0.0), dict.fromkeys(study.space.widths, 0.25)])
    monkeypatch.setattr("mnsa.search.trial.suggest_point", lambda *_: next(points))
    run_worker(study)
    bare, other = trial_records(study)
    assert (bare.state, bare.reason) == ("pruned", "no branch at level 1, 2, 3, 4, 5")
    assert other.state == "complete"
    assert len(fake_training.configs) == 1


@pytest.mark.parametrize("cost", ["macs", "parameters", "latency"])
def test_second_objective_is_the_cost_of_the_front(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", cost: str
) -> None:
    study = new_study(trials=3, search={"objectives": ("iou", cost), "pruner": "none"})
    fake_training.endings = [[0.4], [0.5], [0.6]]
    run_worker(study)
    records = trial_records(study)
    for trial, record in zip(study.optuna.trials, records, strict=True):
        assert trial.values == [record.iou, record.cost(cost)]
    found = write_best(study, "knee")
    assert found.study.cost == cost
    assert {trial.number for trial in study.optuna.best_trials} == set(found.study.front)


def test_one_stage_for_both_tasks_has_no_shared_stages(
    new_study: Callable[..., SearchStudy],
    monkeypatch: pytest.MonkeyPatch,
    fake_training: "FakeTraining",
    caplog: pytest.LogCaptureFixture,
) -> None:
    from mnsa.search.trial import train_shared_stages

    monkeypatch.setattr(worker, "train_shared_stages", train_shared_stages)
    study = new_study({}, trials=1)
    run_worker(study)
    assert "each trial trains all stages" in caplog.text
    assert fake_training.configs[0].stages == study.config.stages
    assert not study.folder.shared_folder.exists()


def test_log_has_score_cost_best_trial_and_time_left_of_each_trial(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", caplog: pytest.LogCaptureFixture
) -> None:
    study = new_study(trials=3, search={"pruner": "none"})
    fake_training.endings = [[0.4], [0.6, 0.5], [0.3]]
    run_worker(study)
    lines = [line for line in caplog.messages if line.startswith("trial ")]
    assert lines[1].startswith("trial 1  complete  IoU 0.6000  0.0")
    assert " GMACs  0.1" in lines[1]
    assert "best 0.6000 (trial 1)  2 of 3 done, less than a minute left" in lines[1]
    assert lines[2].endswith("best 0.6000 (trial 1)  3 of 3 done")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_puts_the_running_trial_back(
    new_study: Callable[..., SearchStudy], fake_training: "FakeTraining", impatient: None, number: Any, code: int
) -> None:
    study = new_study(trials=2)

    class Stopping(list[Any]):
        def __iter__(self) -> Iterator[float]:
            os.kill(os.getpid(), number)
            yield 0.5

    fake_training.endings = [[0.4], Stopping()]
    with pytest.raises(SearchInterruptedError, match=f"mnsa search --join {study.folder.path}") as interruption:
        run_worker(study)
    assert interruption.value.exit_code == code
    assert states(study) == ["complete", "failed"]
    joined = join_study(study.folder.path)
    run_worker(joined)
    assert states(joined) == ["complete", "failed", "complete"]
    assert [record.reason for record in trial_records(joined)] == ["", "interrupted", ""]
    assert trial_records(joined)[1].index == trial_records(joined)[2].index == 1


@pytest.mark.slow
def test_interrupted_shared_stages_are_resumed(
    new_study: Callable[..., SearchStudy], monkeypatch: pytest.MonkeyPatch, search_config: Callable[..., Config]
) -> None:
    first = {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "class_head"), "epochs": 2}
    second = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 1}
    study, step = new_study(first, second, trials=1), StageModule.training_step
    handler = signal.getsignal(signal.SIGINT)

    def interrupted_step(self: Any, batch: Any, index: Any) -> torch.Tensor:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(StageModule, "training_step", interrupted_step)
    with pytest.raises(SearchInterruptedError):
        run_worker(study)
    signal.signal(signal.SIGINT, handler)  # Lightning ignores Ctrl-C while it shuts down
    assert not trial_records(study)
    monkeypatch.setattr(StageModule, "training_step", step)
    run_worker(study)
    assert [row["epoch"] for row in rows_of(study.folder.shared_folder)] == ["1", "2"]
    assert states(study) == ["complete"]


def test_late_result_of_a_failed_trial_is_not_counted(
    new_study: Callable[..., SearchStudy],
    fake_training: "FakeTraining",
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = new_study(trials=1)

    class Freeing(list[Any]):
        """Epochs in whose midst another worker frees the trial and runs it itself."""

        def __iter__(self) -> Iterator[float]:
            yield 0.9
            study.optuna.tell(0, state=TrialState.FAIL)
            yield 0.9

    fake_training.endings = [Freeing(), [0.3]]
    run_worker(study)  # what the first attempt had reached doesn't prune the second
    records = trial_records(study)
    assert [record.state for record in records] == ["failed", "complete"]
    assert [record.iou for record in records] == pytest.approx([0.9, 0.3])
    assert "not counted" in caplog.text


def test_trials_file_can_be_read_without_optuna(searched: SearchStudy) -> None:
    tree = json.loads(searched.folder.trials_file.read_text())
    assert [trial["state"] for trial in tree["trials"]] == ["complete"] * TRIALS
    assert tree["budget"] == TRIALS
