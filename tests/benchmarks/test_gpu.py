"""The run on a GPU survives parts that fail, hang or come too late. Its scripts are tried out on a CPU."""

from pathlib import Path

import pytest

import gpu
from gpu import PARTS, Part, run_all


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of benchmarks/, with a script that writes a table and then does what it is told."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "part.py").write_text(
        "import pathlib, sys, time\n"
        "deed, *_, out = sys.argv[1:]\n"
        "pathlib.Path(out).write_text(f'| {deed} |')\n"
        "if deed == 'fails': raise RuntimeError('no such kernel')\n"
        "if deed == 'hangs': time.sleep(600)\n"
    )
    monkeypatch.setattr(gpu, "HERE", folder)
    return folder


def test_a_part_that_fails_or_hangs_keeps_its_rows_and_the_others_run(scripts: Path) -> None:
    parts = [Part(deed, limit, ("part.py", deed)) for deed, limit in (("fails", 60), ("hangs", 2), ("works", 60))]
    assert not run_all(parts, scripts.parent / "out", "cuda", quick=False, seconds=600)
    report = (scripts.parent / "out" / "gpu.md").read_text()
    assert "## fails\n\n**failed with exit code 1: RuntimeError: no such kernel**\n\n| fails |" in report
    assert "## hangs\n\n**stopped after 2 s**\n\n| hangs |" in report
    assert report.endswith("## works\n\n| works |\n")


def test_what_is_left_when_the_time_is_over_is_named(scripts: Path) -> None:
    assert not run_all([Part("works", 60, ("part.py", "works"))], scripts.parent / "out", "cpu", quick=True, seconds=0)
    assert "## works\n\n**not started: the time was over**" in (scripts.parent / "out" / "gpu.md").read_text()


def test_every_part_is_a_script_and_has_its_own_name() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert all((gpu.HERE / part.command[0]).is_file() for part in PARTS)
