"""`mnsa predict` killed in the middle, and run in several processes: every image once, and the same table."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mnsa.run_folder import RunFolder

COPIES = 4
BATCH = 4


@pytest.fixture(scope="module")
def many(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn leaves several times over: 72 images, two of them broken."""
    folder = tmp_path_factory.mktemp("many")
    for copy in range(COPIES):
        shutil.copytree(dataset / "images", folder / f"{copy}")
    for name in ("2/broken.jpg", "3/broken.jpg"):
        (folder / name).write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def command(run: Path, images: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "mnsa",
        "predict",
        str(run),
        str(images),
        "--out",
        str(out),
        "--batch-size",
        str(BATCH),
    ]


@pytest.fixture(scope="module")
def whole(finished: RunFolder, many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """The files of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "answers"
    ended = run_to_end(command(finished.path, many, out))
    assert (ended.returncode, "72 predicted, 2 failed" in ended.stdout) == (3, True), ended.stderr
    return contents(out)


def child_environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def run_to_end(arguments: Sequence[object], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, arguments)], env=child_environment(**environment), capture_output=True, text=True, check=False
    )


def finished_lines(out: Path) -> int:
    parts = out / "parts"
    return sum(part.read_bytes().count(b"\n") for part in parts.glob("*.jsonl")) if parts.is_dir() else 0


def kill_after(images: int, started: subprocess.Popen[Any], out: Path) -> int:
    """Kill a run when it has finished so many images. Returns: the number of images it had finished."""
    while started.poll() is None and finished_lines(out) < images:
        time.sleep(0.002)
    started.kill()
    assert started.wait() == -signal.SIGKILL, "it ended before it could be killed"
    return finished_lines(out)


@pytest.mark.slow
def test_a_run_killed_twice_is_continued_and_writes_what_an_uninterrupted_run_writes(
    finished: RunFolder, many: Path, whole: dict[Path, bytes], tmp_path: Path
) -> None:
    out, survived = tmp_path / "answers", 0
    for images in (10, 40):
        started = subprocess.Popen(
            command(finished.path, many, out), env=child_environment(), stderr=subprocess.DEVNULL
        )
        before, survived = survived, kill_after(images, started, out)
        assert survived >= max(images, before)
        written = len(list((out / "masks").glob("[!.]*.png")))
        assert written <= survived + 2 * BATCH  # at most the batch that is being written
    last = run_to_end(command(finished.path, many, out))
    assert last.returncode == 3, last.stderr
    assert contents(out) == whole


@pytest.mark.slow
def test_two_processes_share_the_images_and_one_that_was_killed_is_started_again(
    finished: RunFolder, many: Path, whole: dict[Path, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "answers"
    shares = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    first, second = (
        subprocess.Popen(
            command(finished.path, many, out), env=child_environment(**share), stdout=subprocess.PIPE, text=True
        )
        for share in shares
    )
    with first, second:  # closes their pipes
        kill_after(8, second, out)
        assert "Other processes still work on" in first.communicate()[0]
    assert first.returncode == 0
    again = run_to_end(command(finished.path, many, out), **shares[1])
    told = re.search(r"72 predicted \(\d+ now\), 2 failed", again.stdout)
    assert (again.returncode, told is not None) == (3, True), again.stderr
    assert contents(out) == whole


@pytest.mark.slow
def test_torchrun_shares_the_images(finished: RunFolder, dataset: Path, tmp_path: Path) -> None:
    predict = ["mnsa", "predict", finished.path, dataset / "images", "--out"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--module"]
    for ended in (run_to_end([sys.executable, "-m", *predict, alone]), run_to_end([*torchrun, *predict, shared])):
        assert ended.returncode == 0, ended.stderr
    shared_contents, alone_contents = contents(shared), contents(alone)
    assert sorted(shared_contents) == sorted(alone_contents)
    assert [path for path, content in shared_contents.items() if content != alone_contents[path]] == []
