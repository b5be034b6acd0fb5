"""Faults in other commands: killed measuring processes change no table, and refused files end with one paragraph."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fault_runs import Command, Faults, dose, run
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


def test_disk_refuses_the_files_of_a_command(
    finished: RunFolder, dataset: Path, tmp_path: Path, count: Callable[[str], None]
) -> None:
    """And once it does not, the same command ends well: nothing that was left is in its way."""
    rng = random.Random(11)
    own, out = tmp_path / "run", tmp_path / "out"
    commands = [
        ["export", own, "--to", "torch", "--out", out],
        ["evaluate", own],
        ["predict", own, dataset / "images", "--out", out],
        ["import", "csv", dataset / "manifest.csv", "--out", out],
        ["synth", out, "--per-cultivar", 3, "--cultivars", 2, "--size", 64],
        ["report", own],
        ["calibrate", own],
    ]
    for number in range(dose(40, 4)):
        shutil.copytree(finished.path, own)
        command = commands[number % len(commands)]
        ended = run(command, tmp_path / "log", Faults(max_file_bytes=rng.randrange(2_000, 12_000)))
        assert "Traceback" not in ended.text
        assert (ended.code, ended.text.count("Error: ")) in {(0, 0), (2, 1), (3, 0)}, (command, ended.text)
        count(f"{command[0]}: files refused above a size")
        if ended.code:
            again = run(command, tmp_path / "log")
            assert again.code == 0, (command, ended.text, again.text)
        for folder in (own, out):
            shutil.rmtree(folder, ignore_errors=True)
