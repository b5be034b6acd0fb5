"""`mnsa predict` killed in the middle, and shared among processes: nothing twice, nothing missing, the same table."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

COPIES = 4
BATCH = 4


@pytest.fixture(scope="module")
def many(dataset, tmp_path_factory):
    """The drawn leaves several times over: 72 images, two of them broken."""
    folder = tmp_path_factory.mktemp("many")
    for copy in range(COPIES):
        shutil.copytree(dataset / "images", folder / f"{copy}")
    for name in ("2/broken.jpg", "3/broken.jpg"):
        (folder / name).write_bytes(b"")
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def command(run, images, out):
    return [sys.executable, "-m", "mnsa", "predict", run, images, "--out", out, "--batch-size", str(BATCH)]


@pytest.fixture(scope="module")
def whole(finished, many, tmp_path_factory):
    """What an uninterrupted run leaves."""
    out = tmp_path_factory.mktemp("whole") / "answers"
    ended = run_to_end(command(finished.path, many, out))
    assert (ended.returncode, "72 answered, 2 broken" in ended.stdout) == (3, True), ended.stderr
    return contents(out)


def alone(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def run_to_end(arguments, **environment):
    return subprocess.run(arguments, env=alone(**environment), capture_output=True, text=True, check=False)


def finished_lines(out):
    parts = out / "parts"
    return sum(part.read_bytes().count(b"\n") for part in parts.glob("*.jsonl")) if parts.is_dir() else 0


def killed_after(images, started, out):
    """Kill a run as soon as it has finished so many images. Returns: how many it had when it died."""
    while started.poll() is None and finished_lines(out) < images:
        time.sleep(0.002)
    started.kill()
    assert started.wait() == -signal.SIGKILL, "it ended before it could be killed"
    return finished_lines(out)


@pytest.mark.slow
def test_a_run_killed_twice_goes_on_and_leaves_what_an_uninterrupted_one_leaves(finished, many, whole, tmp_path):
    out, survived = tmp_path / "answers", 0
    for images in (10, 40):
        started = subprocess.Popen(command(finished.path, many, out), env=alone(), stderr=subprocess.DEVNULL)
        before, survived = survived, killed_after(images, started, out)
        assert survived >= max(images, before)
        assert len(list((out / "masks").glob("[!.]*.png"))) <= survived + 2 * BATCH  # a batch written, and none more
    last = run_to_end(command(finished.path, many, out))
    assert last.returncode == 3, last.stderr
    assert contents(out) == whole


@pytest.mark.slow
def test_two_processes_share_the_images_and_one_that_was_killed_is_started_again(finished, many, whole, tmp_path):
    out = tmp_path / "answers"
    shares = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    first, second = (
        subprocess.Popen(command(finished.path, many, out), env=alone(**share), stdout=subprocess.PIPE, text=True)
        for share in shares
    )
    with first, second:  # closes their pipes
        killed_after(8, second, out)
        assert "other processes still have" in first.communicate()[0]
    assert first.returncode == 0
    again = run_to_end(command(finished.path, many, out), **shares[1])
    assert (again.returncode, "72 answered, 2 broken" in again.stdout) == (3, True), again.stderr
    assert contents(out) == whole


@pytest.mark.slow
def test_torchrun_shares_the_images(finished, dataset, tmp_path):
    predict = ["mnsa", "predict", finished.path, dataset / "images", "--out"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--module"]
    for ended in (run_to_end([sys.executable, "-m", *predict, alone]), run_to_end([*torchrun, *predict, shared])):
        assert ended.returncode == 0, ended.stderr
    shared_contents, alone_contents = contents(shared), contents(alone)
    assert sorted(shared_contents) == sorted(alone_contents)
    assert [path for path, content in shared_contents.items() if content != alone_contents[path]] == []
