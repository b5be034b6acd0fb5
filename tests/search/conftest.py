"""What the search's tests share: configs of two stages, storages of every kind, and studies small enough to run."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnsa.config import Config
from mnsa.model.network import NetworkCost
from mnsa.search.storage import open_storage
from mnsa.search.study import SearchStudy, create_study

FIRST = {
    "name": "first",
    "tasks": ("classification",),
    "trainable": ("backbone", "attention", "class_head"),
    "epochs": 1,
}
SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 2}


@pytest.fixture(scope="session", autouse=True)
def migrations_are_read_once() -> Iterator[None]:
    """Keep Optuna's migration scripts, which never change: each new SQLite storage would compile them again."""
    from alembic.script import ScriptDirectory

    kept: dict[str, ScriptDirectory] = {}
    read = ScriptDirectory.from_config

    def from_config(config: Any) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in kept:
            kept[place] = read(config)
        return kept[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(scope="session")
def search_config(make_config: Callable[..., Config]) -> Callable[..., Config]:
    """The small network in two stages; the keys of [search] that differ, and other sections."""

    def make(*stages: Any, search: Any = None, **sections: Any) -> Config:
        return make_config(*(stages or (FIRST, SECOND)), search={"startup_trials": 2, **(search or {})}, **sections)

    return make


@pytest.fixture
def new_study(search_config: Callable[..., Config], dataset: Path, tmp_path: Path) -> Callable[..., SearchStudy]:
    """Make a study in a new folder; it has trained nothing yet."""

    def make(
        *stages: Any,
        name: str = "study",
        trials: Any = 3,
        storage: Any = None,
        rule: str = "best",
        data: Path = dataset,
        **sections: dict[str, Any],
    ) -> SearchStudy:
        config = search_config(*stages, **sections)
        return create_study(config, data, tmp_path / name, trials=trials, storage=storage, rule=rule)

    return make


@pytest.fixture
def free_port() -> Any:
    """A TCP port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def grpc_url(tmp_path: Path, free_port: Any) -> Iterator[str]:
    """Optuna's gRPC proxy in front of an SQLite file, in a thread."""
    from concurrent.futures import ThreadPoolExecutor

    from optuna.storages._grpc.server import make_server

    with ThreadPoolExecutor(4) as pool:
        server = make_server(open_storage(f"sqlite:///{tmp_path}/behind.db"), "localhost", free_port, pool)
        server.start()
        yield f"grpc://localhost:{free_port}"
        server.stop(grace=None).wait()


@pytest.fixture(params=["sqlite", "journal", "grpc"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The URL of an empty storage, of each kind that needs no server of its own."""
    if request.param == "grpc":
        return request.getfixturevalue("grpc_url")
    return {"sqlite": f"sqlite:///{tmp_path}/trials.db", "journal": f"journal:{tmp_path}/trials.log"}[request.param]


class FakeTraining:
    """Stands in for training: each call ends as the next of `endings` says, epochs' validation IoU or an exception."""

    def __init__(self) -> None:
        self.endings: list[Any] = []
        self.configs: list[Any] = []

    def __call__(self, config: Any, manifest: Any, dataset: Path, out: Any, *, callbacks: Any = ()) -> None:
        self.configs.append(config)
        ending = self.endings.pop(0) if self.endings else [0.5]
        if isinstance(ending, BaseException):
            raise ending
        (out / "model").mkdir(parents=True)
        (out / "checkpoints").mkdir()
        for iou in ending:
            value = torch.tensor(iou)
            trainer = SimpleNamespace(callback_metrics={"val_iou": value, "val_score": value})
            for callback in callbacks:
                callback.on_train_epoch_end(trainer, SimpleNamespace(stage=config.stages[-1]))


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> "FakeTraining":
    """Train nothing, neither shared stages nor trials; costs are made up too, wider is dearer."""
    fake = FakeTraining()
    monkeypatch.setattr(
        "mnsa.search.trial.network_cost",
        lambda model, *_: NetworkCost(180_000 + int(1e5 * model.widths[0]), int(1e7 * sum(model.widths))),
    )
    monkeypatch.setattr("mnsa.search.trial.train_validated", fake)
    monkeypatch.setattr("mnsa.search.trial.gc", SimpleNamespace(collect=lambda: 0))  # nothing to collect, and slow
    monkeypatch.setattr("mnsa.search.worker.train_shared_stages", lambda *_: None)
    return fake
