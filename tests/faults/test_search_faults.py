"""Faults in a search: every trial is complete once, whatever happens to its workers and to the storage."""

import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from fault_runs import Command, Faults, dose
from mnsa.config import Config
from mnsa.search.results import trial_records
from mnsa.search.storage import open_storage
from mnsa.search.study import create_study, join_study

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]

TRIALS = 3
STAGES = (
    {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "class_head"), "epochs": 1},
    {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 2},
)

MakeStudy = Callable[..., Path]


@pytest.fixture
def make_study(dataset: Path, make_config: Callable[..., Config], tmp_path: Path) -> MakeStudy:
    """Make a study in a new folder; it has trained nothing yet."""

    def make(name: str, storage: str | None = None) -> Path:
        config = make_config(*STAGES, search={"startup_trials": 2, "pruner": "none", "heartbeat_s": 1.0})
        create_study(config, dataset, tmp_path / name, trials=TRIALS, storage=storage)
        return tmp_path / name

    return make


def finished_trials(study: Path) -> int:
    """Count the trials that have trained to their end."""
    return len(list(study.glob("trials/*/model/model.safetensors")))


def require_complete(workers: list[Command], study: Path) -> None:
    """Require that all workers end well, and that every trial is complete once."""
    for ended in [worker.wait() for worker in workers]:
        assert ended.code == 0, ended.text
        assert "Traceback" not in ended.text
    records = trial_records(join_study(study))
    assert Counter(record.index for record in records if record.state == "complete") == dict.fromkeys(range(TRIALS), 1)


def test_workers_are_killed(make_study: MakeStudy, tmp_path: Path, count: Callable[[str], None]) -> None:
    rng, left, studies = random.Random(7), dose(50, 3), 0
    while left:
        study, studies = make_study(f"study{studies}"), studies + 1
        workers = [Command(["search", "--join", study], tmp_path / f"log{number}") for number in range(2)]
        for _ in range(min(left, 2)):  # a trial is given up when its third worker dies
            victim = rng.randrange(2)
            time.sleep(rng.uniform(0, 3))
            workers[victim].signal(signal.SIGKILL, group=rng.random() < 0.5)
            if workers[victim].wait().code == -signal.SIGKILL:
                left -= 1
                count("search worker killed")
            workers[victim] = Command(["search", "--join", study], tmp_path / f"log{victim}")
        require_complete(workers, study)


def limit_addresses() -> None:
    resource = import_module("resource")  # not on Windows
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY))


@contextmanager
def proxy(storage: str, port: int) -> Iterator[None]:
    """Optuna's gRPC proxy in front of a storage."""
    from optuna.storages._grpc.server import make_server

    with ThreadPoolExecutor(4) as pool:
        server = make_server(open_storage(storage), "localhost", port, pool)
        server.start()
        try:
            yield
        finally:
            server.stop(grace=None).wait()


def test_storage_is_restarted(make_study: MakeStudy, tmp_path: Path, count: Callable[[str], None]) -> None:
    rng = random.Random(8)
    for number in range(dose(10, 1)):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        storage = f"sqlite:///{tmp_path}/behind{number}.db"
        with proxy(storage, port):
            study = make_study(f"study{number}", f"grpc://localhost:{port}")
            worker = Command(["search", "--join", study], tmp_path / "log", Faults(patch=limit_addresses))
            worker.wait_until((study / "shared" / "model").exists)
            time.sleep(rng.uniform(0, 2))
        time.sleep(1)
        with proxy(storage, port):
            count("storage restarted")
            require_complete([worker], study)
            assert "the limit of ulimit -v" in (tmp_path / "log").read_text()  # named, long before it is met
