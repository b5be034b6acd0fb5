"""Faults in prediction: a measuring process is killed, and the table is that of a run without faults."""

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fault_runs import Command, dose, run
from mnsa.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]


def test_measuring_process_is_killed(
    finished: RunFolder, dataset: Path, tmp_path: Path, count: Callable[[str], None]
) -> None:
    rng = random.Random(9)
    arguments = ["predict", finished.path, dataset / "images", "--traits", "--batch-size", 1, "--out"]
    whole = run([*arguments, tmp_path / "whole"], tmp_path / "log")
    assert whole.code == 0, whole.text
    expected, left, number = (tmp_path / "whole/predictions.csv").read_text(), dose(20, 2), 0
    while left:
        out, number = tmp_path / f"out{number}", number + 1
        command = Command([*arguments, out], tmp_path / "log")
        command.wait_until(lambda: command.children("spawn_main"))  # noqa: B023
        command.process.join(rng.uniform(0, 2))
        measuring = command.children("spawn_main")
        if measuring:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(measuring), signal.SIGKILL)
                left -= 1
                count("measuring process killed")
        ended = command.wait()
        assert ended.code == 0, ended.text
        assert "Traceback" not in ended.text
        assert (out / "predictions.csv").read_text() == expected
