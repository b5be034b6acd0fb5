"""Faults in training: each run is continued to the weights of a run without faults, or ends with one paragraph.

`make test-faults` injects the full dose; otherwise a short one.
"""

import os
import random
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fault_runs import Command, Ended, Faults, Reference, damage, dose, equal, run, weights
from mnsa.errors import RunError
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder
from mnsa.training.checkpoint import find_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]

Count = Callable[[str], None]

References = Mapping[int, Reference]


def finish(reference: Reference, out: Path, log: Path) -> Ended:
    """Continue a run to its end, or start it if it had not begun."""
    ended = run(["train", "--resume", out] if out.exists() else [*reference.arguments, "--out", out], log)
    assert ended.code == 0, ended.text
    return ended


def require_paragraph(ended: Ended, code: int) -> None:
    """Require this exit code, and one paragraph that says how to go on."""
    assert ended.code == code, ended.text
    assert "Traceback" not in ended.text
    assert "mnsa train --resume" in ended.text


def rows(out: Path) -> int:
    metrics = out / "metrics.csv"
    return len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0


def require_equal(reference: Reference, out: Path, log: Path) -> None:
    """Continue a run, and require the weights of the one without faults, and nothing left over."""
    finish(reference, out, log)
    assert equal(weights(out), reference.weights)
    assert not list(out.rglob("*.tmp*"))
    shutil.rmtree(out)


def test_killed_inside_saves(references: References, tmp_path: Path, count: Count) -> None:
    rng, elsewhere = random.Random(1), Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    for number in range(dose(100, 4)):
        reference, out = references[2 * (number % 2)], tmp_path / "run"
        faults = Faults(
            kill_at=rng.randrange(1, reference.steps + 1),
            environment={"TMPDIR": str(elsewhere if number % 4 < 2 else tmp_path)},
        )
        assert run([*reference.arguments, "--out", out], tmp_path / "log", faults).code == -signal.SIGKILL
        require_equal(reference, out, tmp_path / "log")
        count("kill -9 inside a save")


def test_killed_at_any_time(references: References, tmp_path: Path, count: Count) -> None:
    rng = random.Random(2)
    for number in range(dose(100, 4)):
        reference, out, epochs = references[2 * (number % 2)], tmp_path / "run", rng.randrange(3)
        command = Command([*reference.arguments, "--out", out], tmp_path / "log", Faults())
        command.wait_until(lambda: out.exists() and rows(out) >= epochs)  # noqa: B023
        command.process.join(rng.uniform(0, 0.3))
        command.signal(signal.SIGKILL, group=number % 4 < 2)
        command.wait()
        require_equal(reference, out, tmp_path / "log")
        count("kill -9 at any time")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals(references: References, tmp_path: Path, count: Count, number: signal.Signals) -> None:
    rng = random.Random(number)
    for attempt in range(dose(20, 1)):
        group = number == signal.SIGTERM if attempt == 0 else rng.random() < 0.5
        reference, out = references[2 if attempt == 0 else rng.choice((0, 2))], tmp_path / "run"
        epochs = 1 if attempt == 0 else rng.randrange(3)
        command = Command([*reference.arguments, "--out", out], tmp_path / "log", Faults())
        command.wait_until(lambda: out.exists() and rows(out) >= epochs)  # noqa: B023
        command.signal(number, group=group)
        ended = command.wait()
        if ended.code:
            require_paragraph(ended, 128 + number)
        require_equal(reference, out, tmp_path / "log")
        count(f"{number.name}, to the process or its group")


def test_disk_refuses(references: References, tmp_path: Path, count: Count) -> None:
    rng = random.Random(3)
    for number in range(dose(40, 2)):
        reference, out = references[0], tmp_path / "run"
        faults = Faults(max_file_bytes=(rng.randrange(3_000, 700_000), 700_000)[number % 2])
        ended = run([*reference.arguments, "--out", out], tmp_path / "log", faults)
        assert ended.code == 2, ended.text
        assert "Traceback" not in ended.text
        require_equal(reference, out, tmp_path / "log")
        count("files refused above a size")


def test_loader_process_is_killed(references: References, tmp_path: Path, count: Count) -> None:
    rng = random.Random(4)
    for _ in range(dose(20, 1)):
        out = tmp_path / "run"
        command = Command([*references[2].arguments, "--out", out], tmp_path / "log", Faults())
        command.wait_until(lambda: rows(out) >= 1)  # noqa: B023
        for child in command.children()[:1] if rng.random() < 0.5 else command.children()[-1:]:
            os.kill(child, signal.SIGKILL)
        ended = command.wait()
        if ended.code:
            require_paragraph(ended, 2)
        require_equal(references[2], out, tmp_path / "log")
        count("loader process killed")


def test_damaged_bytes(finished: RunFolder, tmp_path: Path, count: Count) -> None:
    rng = random.Random(5)
    own = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    folder = own.checkpoint_folder("joint")
    for _ in range(dose(1000, 100)):
        file = rng.choice([*folder.glob("*.ckpt"), own.model_folder / "model.safetensors"])
        whole = {path: path.read_bytes() for path in own.path.rglob("*") if path.is_file()}
        damage(file, rng)
        if file.suffix == ".safetensors":
            with pytest.raises(RunError, match="is damaged"):
                load_network(own.path)
        else:
            found = find_checkpoint(folder, writes=False)
            assert found is None or found.path != file
        file.write_bytes(whole[file])
        count("damaged bytes in state files")
