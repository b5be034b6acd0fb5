"""Faults in training with two processes: all leave together, with the promised exit codes, and can be continued."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from fault_runs import Ended, dose, equal, start_ranks, weights
from mnsa.config import Config, dump_config

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]

LIMIT_S = 60.0


def finish(arguments: Sequence[object], folder: Path) -> None:
    for ended in [rank.wait() for rank in start_ranks(arguments, folder)]:
        assert ended.code == 0, ended.text


@pytest.fixture(scope="module")
def reference(
    dataset: Path, make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[object, ...], dict[str, torch.Tensor]]:
    """A training without faults: how to start it, and its weights."""
    folder = tmp_path_factory.mktemp("reference")
    config = make_config(
        {"epochs": 3, "batch_size": 2}, train={"postprocessing": False, "ema_decay": 0.9, "checkpoint_minutes": 1e-9}
    )
    (folder / "small.toml").write_text(dump_config(config))
    arguments = ("train", folder / "small.toml", "--data", dataset)
    finish([*arguments, "--out", folder / "run"], folder)
    return arguments, weights(folder / "run")


def require_end(ended: Sequence[Ended], number: signal.Signals, target: int | None) -> None:
    """Require the promised exit codes, one paragraph each at most, and no traceback."""
    killed = number == signal.SIGKILL
    for rank, one in enumerate(ended):
        assert one.code == (-number if killed and rank == target else 2 if killed else 128 + number), one.text
        assert "Traceback" not in one.text
        assert one.text.count("Error: ") <= 1
    speaker = ended[1 if killed and target == 0 else 0]
    assert "mnsa train --resume" in speaker.text


def test_processes_that_are_killed_or_signalled(
    reference: tuple[tuple[object, ...], dict[str, torch.Tensor]], tmp_path: Path, count: Callable[[str], None]
) -> None:
    arguments, expected = reference
    rng, out = random.Random(6), tmp_path / "run"
    kinds = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    for attempt in range(dose(40, 2)):
        number = kinds[attempt % 4]
        targets = (0, 1) if number == signal.SIGKILL else (0, 1, None)
        target, epochs = (1, 1) if attempt < 2 else (rng.choice(targets), rng.randrange(3))
        ranks = start_ranks([*arguments, "--out", out], tmp_path)
        metrics = out / "metrics.csv"
        ranks[0].wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > epochs)  # noqa: B023
        start = time.monotonic()
        for rank in ranks if target is None else [ranks[target]]:
            rank.signal(number, group=False)
        ended = [rank.wait() for rank in ranks]
        assert time.monotonic() - start < LIMIT_S
        if any(one.code for one in ended):
            require_end(ended, number, target)
        finish(["train", "--resume", out], tmp_path)
        assert equal(weights(out), expected)
        shutil.rmtree(out)
        count(f"{number.name}, to one of two processes or to both")
