"""Commands in separate processes: interrupted, killed, and in parallel."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from mnsa.config import Config, dump_config

pytestmark = pytest.mark.slow

MNSA = [sys.executable, "-m", "mnsa"]
LIMIT_S = 600
EPOCHS = (2, 4)  # of the two stages
STAGES = (
    {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "attention", "class_head")},
    {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder")},
)
QUIET = {name: value for name, value in os.environ.items() if name not in {"RANK", "LOCAL_RANK", "WORLD_SIZE"}}
QUIET |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def two_stages(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file with two stages; the second has time for an interruption."""
    path = tmp_path_factory.mktemp("configs") / "two.toml"
    stages = ({**stage, "epochs": epochs} for stage, epochs in zip(STAGES, EPOCHS, strict=True))
    config = make_config(*stages, train={"ema_decay": 0.9})
    path.write_text(dump_config(config), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run_to_end() -> Callable[..., str]:
    """Return a function that runs a command, expects exit code 0, and returns its output."""

    def run(*command: Any) -> Any:
        words = [str(word) for word in command]
        ended = subprocess.run(words, env=QUIET, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.fixture(scope="module")
def whole(
    run_to_end: Callable[..., str], two_stages: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nothing interrupted. For reading only."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    run_to_end(*MNSA, "train", two_stages, "--data", dataset, "--out", run)
    return run


@pytest.fixture
def stop_in_second_stage(two_stages: Path, dataset: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Return a function that trains and sends a signal after epoch 1 of stage 2; it returns exit code and stderr."""

    def stop(run: Path, number: Any) -> Any:
        command = [*MNSA, "train", str(two_stages), "--data", str(dataset), "--out", str(run)]
        with subprocess.Popen(command, env=QUIET, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                if line.startswith("second 1/4"):
                    break
            process.send_signal(number)
            _, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, err

    # Tests in the background of a shell, and their child processes, would ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield stop
    signal.signal(signal.SIGINT, before)


def rows_of(run: Path) -> Any:
    lines = (run / "metrics.csv").read_text().splitlines()[1:]
    return [tuple(line.split(",")[:2]) for line in lines]


ALL_ROWS = [
    (stage["name"], str(epoch)) for stage, last in zip(STAGES, EPOCHS, strict=True) for epoch in range(1, last + 1)
]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_resumed_run_equals_an_uninterrupted_run(
    run_to_end: Callable[..., str],
    stop_in_second_stage: Callable[..., tuple[int, str]],
    whole: Path,
    tmp_path: Path,
    number: Any,
    code: int,
) -> None:
    stopped, err = stop_in_second_stage(tmp_path / "parts", number)
    assert stopped == code
    assert "Traceback" not in err
    run_to_end(*MNSA, "train", "--resume", tmp_path / "parts")
    assert (tmp_path / "parts" / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    ours, expected = (load_file(run / "model" / "model.safetensors") for run in (tmp_path / "parts", whole))
    assert all(ours[name].equal(expected[name]) for name in expected)
    assert not list(tmp_path.rglob("*.part")) + list(whole.rglob("*.part"))


def test_two_processes_train_both_stages(
    run_to_end: Callable[..., str], two_stages: Path, dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    output = run_to_end(*MNSA, "train", two_stages, "--data", dataset, "--out", run, "--devices", 2)
    assert output.count("Trained: ") == 1
    assert rows_of(run) == ALL_ROWS
    assert "split test" in run_to_end(*MNSA, "evaluate", run)


def test_torchrun_trains_both_stages(
    run_to_end: Callable[..., str], two_stages: Path, dataset: Path, tmp_path: Path
) -> None:
    run, torchrun = tmp_path / "run", [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2]
    arguments = ["train", two_stages, "--data", dataset, "--out", run, "--devices", 2]
    run_to_end(*torchrun, "--master-port", 29_000 + time.time_ns() % 1000, "-m", "mnsa", *arguments)
    assert rows_of(run) == ALL_ROWS
    assert (run / "model" / "model.safetensors").exists()


def test_training_on_synthetic_leaves_reduces_the_loss(
    run_to_end: Callable[..., str], config_file: Path, tmp_path: Path
) -> None:
    leaves, run, answers = (tmp_path / name for name in ("drawn", "run", "predictions"))
    run_to_end(*MNSA, "synth", "--cultivars", 2, "--per-cultivar", 16, "--size", 64, leaves)
    options = ["--set", "stages.joint.epochs=12"]
    run_to_end(*MNSA, "train", config_file, "--data", leaves, "--out", run, *options)
    run_to_end(*MNSA, "evaluate", run)
    run_to_end(*MNSA, "predict", run, leaves / "images", "--out", answers)
    losses = [float(line.split(",")[2]) for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.7 * losses[0]
    assert len(list((answers / "masks").iterdir())) == 32
