"""A check as a whole: everything in one pass, the same with more processes, and numbers that add up."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from broken_sets import RECIPES
from leaf_files import LeafFiles
from PIL import Image
from rich.console import Console

from mnsa.cli.check import findings_table, summary_tables
from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.data.validation import validate
from mnsa.data.validation.validate import find_errors, require_valid, validate_dataset
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
    report = validate_dataset(own_dataset)
    assert [finding.kind for finding in report.findings] == [
        "bad-path", "bad-scale", "group-leak", "truncated", "duplicate", "unlisted-file"
    ]  # fmt: skip
    assert (report.errors, report.exit_code) == (4, 2)
    text = shown(findings_table(report))
    assert all(finding.kind in text for finding in report.findings)
    assert "line 5: px_per_mm is 'wide'" in text


def test_findings_do_not_depend_on_the_number_of_processes(own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(own_dataset, "half_a_png", "a_test_image_that_is_a_training_image_turned")
    alone = validate_dataset(own_dataset)
    monkeypatch.setattr(validate, "_MIN_ROWS_FOR_PROCESSES", 0)
    assert validate_dataset(own_dataset, workers=2) == alone
    assert {finding.kind for finding in alone.findings} == {"truncated", "near-duplicate-across-splits"}


def test_processes_that_look_at_files_load_no_torch() -> None:
    code = "import sys, mnsa.data.validation.validate, mnsa.cli.check\n"
    code += "assert not {'torch', 'scipy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_that_is_killed_is_explained(own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def __enter__(self) -> "Killed":
            return self

        def __exit__(self, *error: object) -> None: ...

        def map(self, *arguments: object, **options: object) -> None:
            raise validate.BrokenProcessPool

    monkeypatch.setattr(validate, "_MIN_ROWS_FOR_PROCESSES", 0)
    monkeypatch.setattr(validate, "ProcessPoolExecutor", Killed)
    with pytest.raises(DataError, match="was killed, most likely for want of memory"):
        validate_dataset(own_dataset, workers=2)


def test_progress_counts_every_row(dataset: Path) -> None:
    seen: list[tuple[int, int]] = []
    validate_dataset(dataset, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 18) for n in range(1, 19)]


def test_the_summary_is_that_of_the_files(own_dataset: Path) -> None:
    leaves = LeafFiles(own_dataset)
    leaves.rows[0]["px_per_mm"] = ""
    leaves.rows[1]["group"] = "p"
    leaves.save()
    summary = validate_dataset(own_dataset).summary
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
    tree = json.loads(json.dumps(validate_dataset(own_dataset).to_dict()))
    (finding,) = tree["findings"]
    assert (tree["errors"], tree["warnings"], finding["severity"], finding["kind"]) == (1, 0, "error", "label-unknown")
    assert finding["location"].endswith("manifest.csv, line 4")
    assert finding["file"] == LeafFiles(own_dataset).rows[2]["image"]
    assert finding["fix"] == "Add it there"


def test_of_many_faults_of_a_kind_ten_are_shown_and_all_are_kept(own_dataset: Path) -> None:
    for row in read_manifest(own_dataset).rows:
        (own_dataset / row.mask).unlink()
    report = validate_dataset(own_dataset)
    assert len(report.findings) == 18
    text = shown(findings_table(report))
    assert text.count("does not exist") == 10
    assert "and 8 more like these" in text


def test_a_hostile_name_does_nothing_to_the_terminal(own_dataset: Path) -> None:
    leaves = LeafFiles(own_dataset)
    leaves.rename(leaves.rows[0], "image", "\x1b[2Jleaf [red].jpg").unlink()
    leaves.save()
    text = shown(findings_table(validate_dataset(own_dataset)))
    assert "\x1b" not in text
    assert "\\x1b[2Jleaf [red].jpg" in text


def test_a_folder_that_is_no_data_set_is_one_error(tmp_path: Path) -> None:
    report = validate_dataset(tmp_path)
    assert [finding.kind for finding in report.findings] == ["manifest"]
    assert "`mnsa import` makes one" in report.findings[0].reason
    assert report.summary is report.manifest is None


def with_broken_files(leaves: Manifest, tmp_path: Path) -> Manifest:
    """Break six files of a sound data set, each in its own way."""
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "1_mask.png").unlink()
    Image.fromarray(np.zeros((40, 39), np.uint8)).save(tmp_path / "3_mask.png")
    Image.fromarray(np.full((40, 40), 17, np.uint8)).save(tmp_path / "5_mask.png")
    (tmp_path / "link.png").symlink_to(tmp_path.parent)
    return replace(leaves, rows=(*leaves.rows, Row("link.png", label="a")))


def test_a_sound_data_set_has_no_faults(leaves: Manifest) -> None:
    assert find_errors(leaves) == []
    require_valid(leaves)


def test_every_fault_is_found_in_one_pass_in_the_order_of_the_rows(leaves: Manifest, tmp_path: Path) -> None:
    findings = find_errors(with_broken_files(leaves, tmp_path))
    reasons = {
        "0.png": "0 bytes",
        "1_mask.png": "does not exist",
        "2.png": "is damaged",
        "3_mask.png": "is 39 x 40 pixels, but its image 3.png is 40 x 40",
        "5_mask.png": "pixel values 17",
        "link.png": "outside the data set's root",
    }
    assert [finding.file for finding in findings] == list(reasons)
    assert all(reasons[finding.file] in finding.reason for finding in findings)


def test_the_error_lists_the_faults_with_their_number_and_the_fix(leaves: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaves: 6 of its files can't be used:\n  0\.png") as caught:
        require_valid(with_broken_files(leaves, tmp_path))
    assert "take their rows out of manifest.csv" in str(caught.value)


def test_of_many_faults_ten_are_shown(leaves: Manifest) -> None:
    absent = replace(leaves, rows=tuple(Row(f"absent{n}.png", label="a") for n in range(13)))
    with pytest.raises(DataError, match=r"(?s)13 of its files.*and 3 more") as caught:
        require_valid(absent.split(""))
    assert str(caught.value).count("does not exist") == 10


def test_progress_before_training_counts_every_row(leaves: Manifest, draw_leaf: Callable[..., None]) -> None:
    seen: list[tuple[int, int]] = []
    find_errors(leaves, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 14) for n in range(1, 15)]
