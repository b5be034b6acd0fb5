"""`mnsa compare` on two evaluated runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.run_folder import RunFolder


@pytest.fixture
def runs(finished: RunFolder, tmp_path: Path) -> Path:
    """A folder with a_seed1, a_seed2 and b_seed1, whose evaluations are tables of three images."""
    for name, ious in {"a_seed1": (0.5, 0.6, 0.7), "a_seed2": (0.5, 0.6, 0.7), "b_seed1": (0.7, 0.8, 0.9)}.items():
        run = tmp_path / name
        shutil.copytree(finished.path, run, ignore=shutil.ignore_patterns("checkpoints", "predictions"))
        folder = run / "predictions" / "test"
        folder.mkdir(parents=True)
        rows = "".join(f'"{number}.png","",{iou}\n' for number, iou in enumerate(ious))
        (folder / "images.csv").write_text('"image","group","iou"\n' + rows)
    return tmp_path


def test_two_runs(mnsa: Callable[..., Any], runs: Path) -> None:
    result = mnsa("compare", runs / "a_seed1", runs / "b_seed1")

    assert result.code == 0, result.err
    assert "over 3 images" in result.out
    assert "0.200" in result.out


def test_a_glob_of_runs(mnsa: Callable[..., Any], runs: Path) -> None:
    assert "0.200" in mnsa("compare", runs / "a_seed*", runs / "b_seed1").out


def test_what_is_refused(mnsa: Callable[..., Any], runs: Path) -> None:
    assert "There is no run" in mnsa("compare", runs / "c_*", runs / "b_seed1").err
    missing = mnsa("compare", runs / "a_seed1", runs / "b_seed1", "--split", "val")
    assert missing.code == 2
    assert "mnsa evaluate" in missing.err
