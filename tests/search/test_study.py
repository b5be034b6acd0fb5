"""A study is made once and is the same thing for everyone who joins it; what isn't the same is refused by name."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest

from mnsa.config import Config
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.errors import DataError, MnsaError, StudyError
from mnsa.io import lock
from mnsa.search.storage import open_storage
from mnsa.search.study import SearchStudy, create_study, join_study, read_study_settings


@pytest.fixture
def other_data(dataset: Path, tmp_path: Path) -> Path:
    """The data set less one training row."""
    manifest = read_manifest(dataset)
    write_manifest(replace(manifest, name="fewer", rows=manifest.rows[1:]), tmp_path / "fewer")
    return tmp_path / "fewer"


def test_study_folder_has_config_data_and_storage(new_study: Callable[..., SearchStudy]) -> None:
    study = new_study(name="leaves")
    assert read_study_settings(study.folder) == ("leaves", "", 3, "best")
    assert study.folder.database_file.exists()
    assert study.url == f"sqlite:///{study.folder.path}/study.db"
    assert tomllib.loads(study.folder.config_file.read_text())["search"]["startup_trials"] == 2
    assert (study.queue.budget, study.name, study.cost) == (3, "leaves", "macs")


def test_study_has_no_test_rows(new_study: Callable[..., SearchStudy], dataset: Path) -> None:
    study = new_study()
    assert {row.split for row in read_manifest(dataset).rows} == {"train", "val", "test"}
    for manifest in (study.manifest, read_manifest(study.folder.data_folder)):
        assert {row.split for row in manifest.rows} == {"train", "val"}
        assert not manifest.split("test").rows


def test_joined_study_has_the_same_config_data_and_trials(new_study: Callable[..., SearchStudy]) -> None:
    study = new_study(search={"sampler": "grid"})
    joined = join_study(study.folder.path)
    assert (joined.config, joined.manifest, joined.name) == (study.config, study.manifest, study.name)
    assert joined.queue.claim() is not None
    assert len(study.optuna.trials) == 3


def test_budget_can_be_raised_but_not_lowered(new_study: Callable[..., SearchStudy]) -> None:
    study = new_study(trials=3)
    assert join_study(study.folder.path, trials=5).queue.budget == study.queue.budget == 5
    with pytest.raises(StudyError, match=r"a budget of 5 trials; --trials 4 can't lower it"):
        join_study(study.folder.path, trials=4)


def test_existing_folder_is_not_changed(new_study: Callable[..., SearchStudy], tmp_path: Path) -> None:
    study = new_study()
    with pytest.raises(StudyError, match=f"mnsa search --join {study.folder.path}"):
        new_study()
    (tmp_path / "mine").mkdir()
    with pytest.raises(StudyError, match="choose another --out"):
        new_study(name="mine")


def test_other_folder_can_not_be_joined(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is no study: study\.toml can't be read"):
        join_study(tmp_path / "gone")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_study_of_the_same_name_with_another_space_or_data_set_is_refused(
    new_study: Callable[..., SearchStudy], other_data: Path, tmp_path: Path, kind: str
) -> None:
    url = {"sqlite": f"sqlite:///{tmp_path}/all.db", "journal": f"journal:{tmp_path}/all.log"}[kind]
    first = new_study(name="leaves", storage=url)
    (tmp_path / "elsewhere").mkdir()
    again = "elsewhere/leaves"
    with pytest.raises(StudyError, match=r"'leaves' in .* has another search space: search\.ratios is") as refusal:
        new_study(name=again, storage=url, search={"ratios": (0.5, 0.25)})
    assert "(0.5, 0.25) here" in str(refusal.value)
    with pytest.raises(StudyError, match=r"'leaves' in .* uses another data set \(leaves, .*; here fewer"):
        new_study(name=again, storage=url, data=other_data)
    with pytest.raises(StudyError, match=f"mnsa search --join {first.folder.path}"):
        new_study(name=again, storage=url)
    assert not (tmp_path / again).exists()
    new_study(name="others", storage=url, data=other_data)  # another name is another study


def test_changed_config_or_data_set_is_refused(new_study: Callable[..., SearchStudy]) -> None:
    study = new_study()
    config, table = study.folder.config_file, study.folder.data_folder / "manifest.csv"
    before = config.read_text()
    config.write_text(before.replace("epochs = 2", "epochs = 3"))
    with pytest.raises(StudyError, match=r"another search space: stages\.1\.epochs is 2 there and 3 here"):
        join_study(study.folder.path)
    config.write_text(before)
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(StudyError, match="another data set"):
        join_study(study.folder.path)


def test_database_with_other_studies_is_refused(new_study: Callable[..., SearchStudy], tmp_path: Path) -> None:
    study = new_study(name="leaves", storage=f"sqlite:///{tmp_path}/all.db")
    other = f"sqlite:///{tmp_path}/empty.db"
    optuna.create_study(study_name="grapes", storage=open_storage(other))
    with pytest.raises(StudyError, match=r"empty\.db has no study 'leaves'"):
        join_study(study.folder.path, storage=other)
    assert join_study(study.folder.path, storage=f"sqlite:///{tmp_path}/all.db").name == "leaves"


def test_password_is_not_saved(
    new_study: Callable[..., SearchStudy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, real = "postgresql://me:secret@oak/leaves", f"sqlite:///{tmp_path}/all.db"
    monkeypatch.setattr("mnsa.search.study.open_storage", lambda _: open_storage(real))
    study = new_study(name="leaves", storage=url)
    assert read_study_settings(study.folder).storage == "postgresql://me@oak/leaves"
    assert "secret" not in study.url
    assert not [path for path in study.folder.path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_limit_below_every_network_names_the_smallest(new_study: Callable[..., SearchStudy], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"the smallest network of the space has 0\.0\d+ GMACs .*64 x 64 px"):
        new_study(rule="under=0.001")
    assert not (tmp_path / "study").exists()
    assert new_study(rule="under=0.5").optuna.user_attrs["selected"] == ["under=0.5", None]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": {"backbone": "resnet99"}}, MnsaError, "resnet99"),
        ({"storage": "leaves.db"}, StudyError, "expected sqlite:///FILE"),
        ({"rule": "worst"}, StudyError, "expected best, knee"),
    ],
)
def test_bad_input_is_refused_before_anything_is_created(
    new_study: Callable[..., SearchStudy],
    tmp_path: Path,
    arguments: dict[str, dict[str, str] | str],
    error: Any,
    message: Literal["resnet99", "expected sqlite:///FILE", "expected best, knee"],
) -> None:
    with pytest.raises(error, match=message):
        new_study(**arguments)
    assert not (tmp_path / "study").exists()


def test_invalid_data_set_is_refused(search_config: Callable[..., Config], own_dataset: Path, tmp_path: Path) -> None:
    (own_dataset / read_manifest(own_dataset).split("val").rows[0].image).unlink()
    with pytest.raises(DataError, match="1 of its files can't be used"):
        create_study(search_config(), own_dataset, tmp_path / "study", trials=3)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("step", ["create_study", "set_user_attr"])
def test_partly_created_study_can_be_joined(
    new_study: Callable[..., SearchStudy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    calls = iter(range(9))

    def die(*_: Any, **__: Any) -> None:
        if next(calls) == 2 or step == "create_study":
            raise KeyboardInterrupt
        return

    monkeypatch.setattr(optuna if step == "create_study" else optuna.Study, step, die)
    with pytest.raises(KeyboardInterrupt):
        new_study(trials=4, rule="knee")
    monkeypatch.undo()
    joined = join_study(tmp_path / "study")
    assert joined.queue.budget == 4
    assert joined.optuna.user_attrs["selected"] == ["knee", None]
    assert joined.queue.claim() is not None


def test_one_process_at_a_time_opens_the_storage(
    new_study: Callable[..., SearchStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = new_study().folder, []

    def open_alone(url: str) -> Any:
        with pytest.raises(TimeoutError), lock(folder.lock_file("queue"), timeout_s=0):
            pass
        opened.append(url)
        return open_storage(url)

    monkeypatch.setattr("mnsa.search.study.open_storage", open_alone)
    join_study(folder.path)
    folder.database_file.unlink()
    join_study(folder.path)
    assert len(opened) == 3  # to load it; to load it again, and to create it


def test_study_with_lost_trials_is_not_created_again(new_study: Callable[..., SearchStudy]) -> None:
    study = new_study()
    study.folder.trial_folder(0).mkdir(parents=True)
    study.folder.database_file.unlink()
    with pytest.raises(StudyError, match="has no study 'study'"):
        join_study(study.folder.path)


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_budget_is_at_most_the_number_of_points(new_study: Callable[..., SearchStudy], sampler: str) -> None:
    study = new_study(trials=500, search={"sampler": sampler, "ratios": (0.125, 0.25)})
    assert study.queue.budget == 32
