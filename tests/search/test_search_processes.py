"""Several worker processes on one study, one of them killed: nothing stuck, nothing counted twice."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest

from mnsa.search.results import trial_records
from mnsa.search.study import SearchStudy, join_study
from mnsa.search.trial_queue import WORKER_ATTR

pytestmark = pytest.mark.slow

FIRST = {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "class_head")}
SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder")}
MNSA = [sys.executable, "-m", "mnsa"]
LIMIT_S = 600
TRIALS = 7
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def postgres_programs() -> Path | None:
    """Where initdb and pg_ctl are, Debian's package included; None where there are none."""
    found = shutil.which("initdb")
    places = [Path(found).resolve()] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


@pytest.fixture
def postgresql(free_port: Any) -> Iterator[str]:
    """The URL of a new PostgreSQL server on a port of its own."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    as_user = []
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        if not shutil.which("runuser") or "postgres" not in {user.pw_name for user in pwd.getpwall()}:
            pytest.skip("root needs runuser and a user postgres to start PostgreSQL")
        as_user = ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory(prefix="mnsa-pg-", ignore_cleanup_errors=True) as folder:
        if as_user:
            shutil.chown(folder, "postgres")
        run_as(as_user, programs / "initdb", "-D", f"{folder}/data", "-U", "mnsa", "-A", "trust", "-N")
        options = f"-p {free_port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        server = [programs / "pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
        run_as(as_user, *server, "-o", options, "start")
        try:
            yield f"postgresql://mnsa@127.0.0.1:{free_port}/postgres"
        finally:
            run_as(as_user, *server, "-m", "immediate", "stop")


def run_as(user: list[str], *command: str | Path | object) -> None:
    subprocess.run([*user, *map(str, command)], check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=LIMIT_S)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Any:
    """The storage that the test's parameter names; None: the study's own file."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return None


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `mnsa search` in a process of its own; what is left of them is killed at the end."""
    with ExitStack() as running:

        def popen(*arguments: str | Path) -> subprocess.Popen[str]:
            command = [*MNSA, "search", *map(str, arguments)]
            log = running.enter_context((tmp_path / f"{len(list(tmp_path.glob('*.err')))}.err").open("w"))
            process = subprocess.Popen(command, env=QUIET, stdout=subprocess.PIPE, stderr=log, text=True)
            running.callback(process.communicate)
            running.callback(process.kill)
            return process

        yield popen


def wait_for(
    process: Any, beginning: Literal["second 1/3", "first 2/4", "Waiting for another worker to train first"]
) -> None:
    """Read what a process prints up to a line that begins so."""
    for line in process.stdout:
        if line.startswith(beginning):
            return
    pytest.fail(f"{process.args} ended before it said {beginning!r}")


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_three_workers_with_one_killed_complete_every_trial_once(
    url: str, start: Callable[..., subprocess.Popen[str]], new_study: Callable[..., SearchStudy], tmp_path: Path
) -> None:
    shared, own = {**FIRST, "epochs": 1}, {**SECOND, "epochs": 3}
    search = {"heartbeat_s": 1.0, "pruner": "none"}
    folder = new_study(shared, own, trials=TRIALS, storage=url, search=search).folder.path
    workers = [start("--join", folder) for _ in range(3)]
    wait_for(workers[0], "second 1/3")
    workers[0].kill()
    workers[0].wait()
    workers[0] = start("--join", folder)
    for worker in workers:
        out, _ = worker.communicate(timeout=LIMIT_S)
        assert worker.returncode == 0
        assert "Selected trial" in out
    study = join_study(folder)
    records = trial_records(study)
    assert Counter(record.index for record in records if record.state == "complete") == dict.fromkeys(range(TRIALS), 1)
    lost = [record for record in records if record.state != "complete"]
    assert [(record.state, record.reason.rpartition(" ")[2]) for record in lost] == [("failed", "died")]
    assert len({trial.user_attrs[WORKER_ATTR]["pid"] for trial in study.optuna.trials}) >= 3
    assert (folder / "shared" / "metrics.csv").read_text().count("first,") == 1
    assert (folder / "best.toml").exists()
    assert not [text for text in tmp_path.glob("*.err") if "Traceback" in text.read_text()]


def test_next_worker_resumes_the_shared_stages_of_a_killed_one(
    start: Callable[..., subprocess.Popen[str]], new_study: Callable[..., SearchStudy]
) -> None:
    folder = new_study({**FIRST, "epochs": 4}, {**SECOND, "epochs": 1}, trials=1).folder.path
    first = start("--join", folder)
    wait_for(first, "first 2/4")
    first.send_signal(signal.SIGSTOP)  # so that it can't finish before the other one is there
    second = start("--join", folder)
    wait_for(second, "Waiting for another worker to train first")
    first.kill()
    second.communicate(timeout=LIMIT_S)
    assert second.returncode == 0
    epochs = [line.split(",")[1] for line in (folder / "shared" / "metrics.csv").read_text().splitlines()[1:]]
    assert epochs == ["1", "2", "3", "4"]
    assert [record.state for record in trial_records(join_study(folder))] == ["complete"]
