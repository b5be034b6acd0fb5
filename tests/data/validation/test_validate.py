"""A check as a whole: everything in one pass, the same with more processes, and numbers that add up."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from broken_sets import RECIPES
from leaf_files import LeafFiles
from rich.console import Console

from mnsa.data.check import check_dataset, run
from mnsa.data.check.tables import fault_table, summary_tables
from mnsa.data.manifest import read_manifest
from mnsa.errors import DataError


def spoil(folder: Path, *names: str) -> None:
    leaves = LeafFiles(folder)
    for recipe in RECIPES:
        if recipe.spoil.__name__ in names:
            recipe.spoil(leaves)
    leaves.save()


def shown(*tables: object) -> str:
    text = io.StringIO()
    Console(width=120, file=text).print(*tables)
    return text.getvalue()


def test_faults_of_all_kinds_are_listed_in_one_pass_errors_first(own_dataset: Path) -> None:
    spoil(own_dataset, "a_plant_in_two_splits", "an_absolute_path", "a_scale_that_is_no_number",
          "an_image_that_counts_twice", "an_image_that_no_row_names", "half_a_png")  # fmt: skip
    findings = check_dataset(own_dataset)
    assert [fault.kind for fault in findings.faults] == [
        "bad-path", "bad-scale", "group-leak", "truncated", "duplicate", "unnamed-file"
    ]  # fmt: skip
    assert (findings.errors, findings.exit_code) == (4, 2)
    text = shown(fault_table(findings))
    assert all(fault.kind in text for fault in findings.faults)
    assert "line 5: px_per_mm is 'wide'" in text


def test_findings_do_not_depend_on_the_number_of_processes(own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(own_dataset, "half_a_png", "a_test_image_that_is_a_training_image_turned")
    alone = check_dataset(own_dataset)
    monkeypatch.setattr(run, "_FEW", 0)
    assert check_dataset(own_dataset, workers=2) == alone
    assert {fault.kind for fault in alone.faults} == {"truncated", "near-duplicate-across-splits"}


def test_processes_that_look_at_files_load_no_torch() -> None:
    code = "import sys, mnsa.data.check, mnsa.data.check.tables\nassert not {'torch', 'scipy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_that_is_killed_is_explained(own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def __enter__(self) -> "Killed":
            return self

        def __exit__(self, *error: object) -> None: ...

        def map(self, *arguments: object, **options: object) -> None:
            raise run.BrokenProcessPool

    monkeypatch.setattr(run, "_FEW", 0)
    monkeypatch.setattr(run, "ProcessPoolExecutor", Killed)
    with pytest.raises(DataError, match="was killed, most likely for want of memory"):
        check_dataset(own_dataset, workers=2)


def test_progress_counts_every_row(dataset: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_dataset(dataset, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 18) for n in range(1, 19)]


def test_the_summary_is_that_of_the_files(own_dataset: Path) -> None:
    leaves = LeafFiles(own_dataset)
    leaves.rows[0]["px_per_mm"] = ""
    leaves.rows[1]["group"] = "p"
    leaves.save()
    summary = check_dataset(own_dataset).summary
    assert summary is not None
    assert summary["splits"] == {"train": 12, "val": 3, "test": 3, "unused": 0}
    assert summary["classes"]["cultivar_02"] == {"train": 4, "val": 1, "test": 1, "unused": 0}
    assert summary["size"] == {"different": 1, "smallest": (64, 64), "median": (64, 64), "largest": (64, 64)}
    assert summary["px_per_mm"]["rows"] == 17
    assert (summary["groups"], summary["masks"]) == (1, 18)
    veins = [(leaves.pixels(leaves.mask(row)) > 0).mean() for row in leaves.rows]
    assert summary["foreground"] == {"vein": pytest.approx(sum(veins) / 18)}
    text = shown(*summary_tables(summary))
    assert "known of 17 of 18 images" in text
    assert "cultivar_03" in text


def test_the_tree_is_json_and_names_place_and_fix(own_dataset: Path) -> None:
    spoil(own_dataset, "a_misspelt_label")
    tree = json.loads(json.dumps(check_dataset(own_dataset).as_tree()))
    (fault,) = tree["faults"]
    assert (tree["errors"], tree["warnings"], fault["severity"], fault["kind"]) == (1, 0, "error", "label-unknown")
    assert fault["where"].endswith("manifest.csv, line 4")
    assert fault["file"] == LeafFiles(own_dataset).rows[2]["image"]
    assert fault["fix"] == "Add it there"


def test_of_many_faults_of_a_kind_ten_are_shown_and_all_are_kept(own_dataset: Path) -> None:
    for row in read_manifest(own_dataset).rows:
        (own_dataset / row.mask).unlink()
    findings = check_dataset(own_dataset)
    assert len(findings.faults) == 18
    text = shown(fault_table(findings))
    assert text.count("does not exist") == 10
    assert "and 8 more like these" in text


def test_a_hostile_name_does_nothing_to_the_terminal(own_dataset: Path) -> None:
    leaves = LeafFiles(own_dataset)
    leaves.rename(leaves.rows[0], "image", "\x1b[2Jleaf [red].jpg").unlink()
    leaves.save()
    text = shown(fault_table(check_dataset(own_dataset)))
    assert "\x1b" not in text
    assert "\\x1b[2Jleaf [red].jpg" in text


def test_a_folder_that_is_no_data_set_is_one_error(tmp_path: Path) -> None:
    findings = check_dataset(tmp_path)
    assert [fault.kind for fault in findings.faults] == ["manifest"]
    assert "`mnsa import` makes one" in findings.faults[0].reason
    assert findings.summary is findings.manifest is None
