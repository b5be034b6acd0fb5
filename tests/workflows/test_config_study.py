"""`run_study`: which runs are made, what is continued, and the table."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tomli_w
from scipy import stats

from mnsa.config import Config, dump_config
from mnsa.errors import ConfigError, DataError, RunError
from mnsa.io import lock
from mnsa.metrics.evaluation_files import save_evaluation
from mnsa.metrics.scores import Evaluation, SampleSize, Score
from mnsa.run_folder import RunFolder
from mnsa.training import fit
from mnsa.workflows import config_study as study_module
from mnsa.workflows.config_study import read_study, run_study


@pytest.fixture
def study_file(tmp_path: Path, make_config: Callable[..., Config]) -> Path:
    """Two configs, two seeds, one data set."""
    (tmp_path / "base.toml").write_text(dump_config(make_config()))
    return _write(tmp_path / "study.toml", seeds=[1, 2])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Replace training and evaluation: what was called. The accuracy of a run is its seed / 10, of `b` 0.5 more."""
    calls: list[tuple[str, ...]] = []

    def train(config: Config, dataset: Path, out: Path) -> RunFolder:
        calls.append(("train", *out.parts[-3:], str(config.train.seed), dataset.name))
        (out / "model").mkdir(parents=True)
        (out / "config.toml").write_text(dump_config(config))
        return RunFolder(out)

    def resume(path: Path, *, dataset: Path) -> RunFolder:
        calls.append(("resume", *path.parts[-3:]))
        (path / "model").mkdir()
        return RunFolder(path)

    def evaluate(path: Path, *, split: str) -> Evaluation:
        calls.append(("evaluate", *path.parts[-3:], split))
        evaluation = _evaluation(int(path.name.removeprefix("seed_")) / 10 + 0.5 * (path.parts[-2] == "b"))
        save_evaluation(RunFolder(path), split, evaluation)
        return evaluation

    monkeypatch.setattr(fit, "train", train)
    monkeypatch.setattr(fit, "resume", resume)
    monkeypatch.setattr(study_module, "fit_after_training", lambda run: None)
    monkeypatch.setattr(study_module, "evaluate_run", evaluate)
    return calls


Calls = list[tuple[str, ...]]


def test_every_config_is_trained_with_every_seed_the_seeds_one_after_the_other(
    study_file: Path, trained: Calls, tmp_path: Path
) -> None:
    run_study(study_file, tmp_path / "out")

    assert [call for call in trained if call[0] == "train"] == [
        ("train", "leaves", name, f"seed_{seed}", str(seed), "leaves") for seed in (1, 2) for name in ("a", "b")
    ]
    assert ("evaluate", "leaves", "a", "seed_1", "test") in trained


def test_the_table_has_means_and_students_intervals_over_seeds(
    study_file: Path, trained: Calls, tmp_path: Path
) -> None:
    rows = run_study(study_file, tmp_path / "out")

    half = stats.t.interval(0.95, 1, loc=0, scale=stats.sem([0.1, 0.2]))[1]
    assert [(row.dataset, row.config, row.score, row.seeds) for row in rows] == [
        ("leaves", "a", "accuracy", 2), ("leaves", "b", "accuracy", 2),
    ]  # fmt: skip
    assert [row.mean for row in rows] == pytest.approx([0.15, 0.65])
    assert [row.half_width for row in rows] == pytest.approx([half, half])
    assert "| leaves | a | 2 | 0.150 ± " in (tmp_path / "out" / "table.md").read_text()
    assert "leaves,a,accuracy,0.15," in (tmp_path / "out" / "table.csv").read_text()
    assert r"\begin{tabular}{lllr}" in (tmp_path / "out" / "table.tex").read_text()


def test_finished_runs_are_kept_and_interrupted_ones_continued(
    study_file: Path, trained: Calls, tmp_path: Path
) -> None:
    run_study(study_file, tmp_path / "out")
    trained.clear()
    interrupted = RunFolder(tmp_path / "out" / "leaves" / "b" / "seed_2")
    interrupted.evaluation_file.unlink()
    interrupted.model_folder.rmdir()

    run_study(study_file, tmp_path / "out")

    assert trained == [("resume", "leaves", "b", "seed_2"), ("evaluate", "leaves", "b", "seed_2", "test")]


def test_a_run_of_another_process_is_left_to_it(study_file: Path, trained: Calls, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "leaves" / "a"
    folder.mkdir(parents=True)

    with lock(folder / ".seed_1.lock"):
        run_study(study_file, tmp_path / "out")

    assert ("a", "seed_1") not in [call[2:4] for call in trained]
    assert len([call for call in trained if call[0] == "train"]) == 3


def test_a_failed_run_stops_no_other_and_is_reported_at_the_end(
    study_file: Path, trained: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = fit.train

    def fail_once(config: Config, dataset: Path, out: Path) -> RunFolder:
        if out.parts[-2:] == ("a", "seed_1"):
            raise DataError("a leaf is missing")
        return train(config, dataset, out)

    monkeypatch.setattr(fit, "train", fail_once)

    with pytest.raises(DataError, match="a leaf is missing"):
        run_study(study_file, tmp_path / "out")

    assert len([call for call in trained if call[0] == "evaluate"]) == 3
    assert "| leaves | a | 1 |" in (tmp_path / "out" / "table.md").read_text()


def test_an_interruption_ends_the_study(
    study_file: Path, trained: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> RunFolder:
        raise fit.TrainingInterruptedError("stopped")

    monkeypatch.setattr(fit, "train", interrupt)

    with pytest.raises(fit.TrainingInterruptedError):
        run_study(study_file, tmp_path / "out")

    assert trained == []


def test_data_sets_can_be_elsewhere(study_file: Path, trained: Calls, tmp_path: Path) -> None:
    run_study(study_file, tmp_path / "out", datasets={"leaves": Path("/data/others")})

    assert trained[0][-1] == "others"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "seeds"),
        ({"configs": {}}, "configs"),
        ({"configs": {"a/b": {"config": "base.toml"}}}, "a/b"),
        ({"configs": {"a": {"config": "base.toml", "sets": []}}}, "configs.a.sets"),
        ({"configs": {"a": {"config": "base.toml", "set": ["train.sede=1"]}}}, r"configs\.a: .*did you mean 'seed'"),
        ({"split": "train"}, "split"),
    ],
)
def test_what_is_refused(
    study_file: Path, trained: Calls, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_study(_write(study_file, **change), tmp_path / "out")

    assert trained == []


def test_a_data_set_that_the_file_does_not_name_is_refused(study_file: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'leafs'"):
        read_study(study_file, {"leafs": Path()})


def test_a_config_that_differs_from_that_of_its_runs_is_refused(
    study_file: Path, trained: Calls, tmp_path: Path
) -> None:
    run_study(study_file, tmp_path / "out")
    trained.clear()
    changed = {"a": {"config": "base.toml", "set": ["loss.dice=0.5"]}, "b": {"config": "base.toml"}}

    with pytest.raises(ConfigError, match=r"configs\.a is another config than that of .*seed_1"):
        run_study(_write(study_file, seeds=[1, 2], configs=changed), tmp_path / "out")

    assert trained == []


def test_a_folder_that_is_no_run_is_reported(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "leaves" / "a" / "seed_1").mkdir(parents=True)
    _write(study_file, seeds=[1], configs={"a": {"config": "base.toml"}})

    with pytest.raises(RunError, match="is no run folder"):
        run_study(study_file, tmp_path / "out")


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "benchmarks" / "studies").glob("*.toml")))
def test_shipped_studies_can_be_read(file: Path) -> None:
    if file.name == "classes.toml":
        pytest.skip("the config that the studies share")
    study = read_study(file, {})

    for name, one in study.configs.items():
        assert study_module._load(file, name, one).stages


def _write(file: Path, **change: object) -> Path:
    configs = {name: {"config": "base.toml"} for name in ("a", "b")}
    tree: dict[str, object] = {"datasets": {"leaves": "leaves"}, "configs": configs, **change}
    file.write_text(tomli_w.dumps(tree))
    return file


def _evaluation(accuracy: float) -> Evaluation:
    scores: Sequence[Score] = [
        Score("accuracy", accuracy, None, "fraction", "classification", "accuracy", headline=True),
        Score("ece", 0.1, None, "fraction", "classification", "calibration error"),
    ]
    sizes = {"classification": SampleSize(4, "images", 4)}
    return Evaluation(dataset="leaves", images=4, calibrated=False, sizes=sizes, scores=tuple(scores))
