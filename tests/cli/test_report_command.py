"""`mnsa report`: from an evaluated run to its page."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.run_folder import RunFolder


@pytest.mark.slow
def test_a_run_is_evaluated_and_reported(mnsa: Callable[..., Any], own_run: RunFolder) -> None:
    evaluated = mnsa("evaluate", own_run.path, "--split", "val", "--traits")
    assert evaluated.code == 0
    assert evaluated.out.endswith(f"Report: mnsa report {own_run.path}\n")
    reported = mnsa("report", own_run.path)
    assert (reported.code, reported.out) == (0, f"Written to {own_run.report_file}\n")
    text = own_run.report_file.read_text()
    assert "<h1>Run run</h1>" in text
    assert "vein density, mm/mm²" in text


def test_a_folder_without_run_and_study_is_an_error(refused: Callable[..., str], tmp_path: Path, dataset: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", dataset):
        assert f"{folder} is no run and no study" in refused("report", folder)
    assert not (dataset / "report.html").exists()


def test_an_incomplete_run_is_an_error_that_names_the_missing_file(
    refused: Callable[..., str], own_run: RunFolder
) -> None:
    own_run.provenance_file.unlink()
    assert "provenance.json is missing" in refused("report", own_run.path)


def test_a_run_accepts_no_storage(refused: Callable[..., str], finished: RunFolder) -> None:
    assert "--storage is an option of studies" in refused("report", finished.path, "--storage", "sqlite:///a.db")


def test_a_run_is_reported_without_optuna(
    mnsa: Callable[..., Any], own_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnsa.cli.shared.find_spec", lambda name: None if name == "optuna" else name)
    assert mnsa("report", own_run.path).code == 0


@pytest.mark.parametrize("option", ["--vein", "--leaf", "--lesion"])
def test_role_options_need_traits(refused: Callable[..., str], finished: RunFolder, option: str) -> None:
    assert "Add --traits" in refused("evaluate", finished.path, option, "vein")


def test_a_page_that_cannot_be_written_is_an_error(
    refused: Callable[..., str], finished: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(shutil.copytree(finished.path, tmp_path / "run"))
    run.report_file.mkdir()
    assert f"{run.report_file} can't be written" in refused("report", run.path)
