"""What is printed where: progress, --json and --quiet."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mnsa.cli.shared import format_speed, image_progress, print_result, set_output
from mnsa.run_folder import RunFolder

VERBS = ("evaluate", "predict", "veins", "traits", "probe", "check")


@pytest.fixture(autouse=True)
def usual_output() -> Iterator[None]:
    yield
    set_output()


@pytest.fixture
def command(
    own_run: RunFolder, bundled_veins: Path, config_file: Path, dataset: Path, tmp_path: Path
) -> Callable[[str], list[object]]:
    """The arguments of a verb."""
    assert bundled_veins.is_dir()
    leaf, out = min((dataset / "images").iterdir()), tmp_path / "out"
    arguments: dict[str, list[object]] = {
        "evaluate": [own_run.path, "--split", "val"],
        "predict": [own_run.path, leaf, "--out", out],
        "veins": [leaf, "--out", out],
        "traits": [dataset / "vein_masks", "--out", tmp_path / "traits.csv"],
        "probe": [dataset, "--config", config_file, "--size", 32],
        "check": [dataset],
    }
    return lambda verb: [verb, *arguments[verb]]


def test_speed_has_images_per_second_and_the_time_left() -> None:
    assert format_speed(remaining=100, finished=50, seconds=10.0) == "5 images/s, 0:00:20 left"
    assert format_speed(remaining=36_000, finished=20, seconds=10.0) == "2 images/s, 5:00:00 left"
    assert format_speed(remaining=7, finished=0, seconds=3.0) == ""


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> Any:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("mnsa.cli.shared.time.monotonic", lambda: float(next(clock)))
    text = io.StringIO()
    with image_progress(Console(file=text, force_terminal=terminal, width=100)) as show:
        for finished in (10, 20, 30, 40):
            show(finished, 40, finished)
    return text.getvalue()


def test_without_a_terminal_a_line_is_printed_every_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert 1 <= len(lines) < 4
    assert lines[0].startswith("20 of 40 images, 0.")
    assert lines[0].endswith(" left")


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "40/40" in shown(monkeypatch, terminal=True)


def test_verbose_progress_has_a_line_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    set_output(verbose=True)
    assert [line.split()[0] for line in shown(monkeypatch, terminal=False).splitlines()] == ["10", "20", "30", "40"]


@pytest.mark.parametrize("verb", VERBS)
def test_json_is_one_object_and_all_else_goes_to_standard_error(
    mnsa: Callable[..., Any], command: Callable[[str], list[object]], verb: str
) -> None:
    ended = mnsa(*command(verb), "--json")
    assert ended.code == 0, ended.err
    (line,) = ended.out.splitlines()
    assert isinstance(json.loads(line), dict)
    assert ended.err.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_a_quiet_command_prints_warnings_alone(
    mnsa: Callable[..., Any], command: Callable[[str], list[object]], verb: str
) -> None:
    code, out, err = mnsa(*command(verb), "--quiet")
    assert (code, out) == (0, "")
    assert all(line.startswith("Warning for 1 of 1: ") for line in err.splitlines())
    assert not err or verb == "veins"


def test_the_object_has_what_the_files_have(
    mnsa: Callable[..., Any], command: Callable[[str], list[object]], own_run: RunFolder
) -> None:
    evaluated = json.loads(mnsa(*command("evaluate"), "--json").out)
    assert json.loads(own_run.evaluation_file.read_text())["val"].items() <= evaluated.items()
    predicted = json.loads(mnsa(*command("predict"), "--json").out)
    rows = list(csv.DictReader(Path(predicted["table"]).read_text().splitlines()))
    assert (predicted["done"], predicted["failed"], predicted["errors"]) == (len(rows), 0, {})


def test_broken_files_and_findings_are_named_in_quiet_too(
    mnsa: Callable[..., Any], own_run: RunFolder, own_dataset: Path, tmp_path: Path
) -> None:
    broken = min((own_dataset / "images").iterdir())
    broken.write_bytes(b"")
    predicted = mnsa("predict", own_run.path, broken, "--out", tmp_path / "out", "--quiet", "--json")
    assert predicted.code == 3
    assert list(json.loads(predicted.out)["errors"]) == [str(broken)]
    assert broken.name in predicted.err
    checked = mnsa("check", own_dataset, "--quiet")
    assert (checked.code, checked.out, checked.err) == (2, "", f"1 errors, 0 warnings: {own_dataset}\n")


def test_what_is_no_finite_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    set_output(json=True)
    print_result({"nan": float("nan"), "list": [(float("inf"), 1.5)], "path": Path("a") / "b"})
    assert json.loads(capsys.readouterr().out) == {"nan": None, "list": [[None, 1.5]], "path": str(Path("a") / "b")}
