"""`mnsa search`, and `mnsa report` of a study: output and errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.config import Config, dump_config, load_config

FIRST = {
    "name": "first",
    "tasks": ("classification",),
    "trainable": ("backbone", "attention", "class_head"),
    "epochs": 1,
}
SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 1}


@pytest.fixture
def search_file(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    """A config file with two stages."""
    path = tmp_path / "search.toml"
    path.write_text(dump_config(make_config(FIRST, SECOND)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_search_join_and_report_follow_each_other(
    mnsa: Callable[..., Any], search_file: Path, dataset: Path, tmp_path: Path
) -> None:
    study = tmp_path / "[my] study"
    created = mnsa(
        "search", search_file, "--data", dataset, "--out", study, "--trials", 2, "--set", "search.sampler=random"
    )
    assert created.code == 0
    assert "243 possible networks, 2 trials (random, pruner halving)" in created.out
    assert f"mnsa search --join {study}" in created.out
    assert "2 of 2 done" in created.out
    assert f"(best): {study / 'best.toml'}" in created.out
    assert load_config(study / "best.toml").stages == load_config(search_file).stages
    joined = mnsa("search", "--join", study, "--trials", 3, "--select", "knee")
    assert (joined.code, joined.out.count(" of 3 done")) == (0, 1)
    assert "(knee)" in joined.out
    reported = mnsa("report", study)
    assert (reported.code, reported.out) == (0, f"Written to {study / 'report.html'}\n")
    assert "<h1>Study [my] study</h1>" in (study / "report.html").read_text()
    again = mnsa("search", search_file, "--data", dataset, "--out", study, "--trials", 2)
    assert (again.code, f"mnsa search --join {study}" in again.err) == (2, True)


def test_join_takes_no_config_and_a_new_study_needs_config_data_and_trials(
    refused: Callable[..., str], search_file: Path, dataset: Path, tmp_path: Path
) -> None:
    assert "--join takes everything from the study's folder" in refused("search", search_file, "--join", tmp_path)
    assert "Give a config, --data, --out and --trials" in refused("search", search_file, "--data", dataset)
    assert f"{tmp_path} is no study" in refused("search", "--join", tmp_path)
    assert f"{tmp_path} is no run and no study" in refused("report", tmp_path)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--select", "under=0.001", "the smallest network of the space has 0.0"),
        ("--select", "cheapest", "expected best, knee"),
        ("--storage", "leaves.db", "expected sqlite:///FILE"),
        ("--storage", "sqlite:////no/such/folder/a.db", "can't be reached"),
        ("--set", "search.ratoi=1", "did you mean 'ratios'"),
    ],
)
def test_bad_input_leaves_no_study_folder(
    refused: Callable[..., str], search_file: Path, dataset: Path, tmp_path: Path, option: str, value: Any, words: str
) -> None:
    out = tmp_path / "study"
    message = refused("search", search_file, "--data", dataset, "--out", out, "--trials", 2, option, value)
    assert words in message
    assert not out.exists()
    assert not list(tmp_path.glob(".study*"))


def test_a_missing_extra_is_an_error_with_the_install_command(
    refused: Callable[..., str], search_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mnsa.cli.shared.find_spec", lambda _: None)
    assert "pip install -e '.[search]'" in refused("search", "--join", tmp_path)
    assert "pip install -e '.[report]'" in refused("report", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "fast"], "expected trials or supernet"),
        (["--under", "1", "--select", "knee"], "Give one of them"),
        (["--retrain"], "--retrain is an option of --extract"),
        (["--extract", "study", "--trials", "3", "--out", "run"], "--extract takes --out and perhaps"),
        (["--extract", "study"], "--extract takes --out and perhaps"),
        (["--extract", "study", "--out", "run"], "study is no study"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    refused: Callable[..., str], arguments: list[str], words: str
) -> None:
    assert words in refused("search", *arguments)


def test_a_supernet_needs_no_number_of_trials_but_takes_no_storage(
    refused: Callable[..., str], search_file: Path, dataset: Path, tmp_path: Path
) -> None:
    new = ["search", search_file, "--data", dataset, "--out", tmp_path / "study", "--method", "supernet"]
    assert "a supernet is one training" in refused(*new, "--storage", "sqlite:///a.db")
    assert "has one network" in refused(*new, "--set", "search.ratios=[0.125]")
    assert not (tmp_path / "study").exists()
