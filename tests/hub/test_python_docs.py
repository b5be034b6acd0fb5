"""The lines that docs/how-to/python.md begins with are run as they stand."""

import re
from pathlib import Path

import pytest

from mnsa.run_folder import RunFolder

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"


def test_five_lines_load_predict_and_measure(
    finished: RunFolder,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 5
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").symlink_to(finished.path)
    (tmp_path / "leaf.jpg").symlink_to(sorted((dataset / "images").iterdir())[0])
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # the page's own words
    name, measured = capsys.readouterr().out.splitlines()
    assert name.startswith("cultivar_")
    assert "vein_density_mm_per_mm2" in measured
