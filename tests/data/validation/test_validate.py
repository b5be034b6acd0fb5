"""Validation as a whole: all findings in one run, any number of processes, the summary, and the report."""

import io
import json
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import broken_files  # noqa: F401 - registers its data sets
import broken_tables  # noqa: F401
import numpy as np
import pytest
from broken_set import BROKEN_SETS
from editable_dataset import EditableDataset, read_array
from PIL import Image
from rich.console import Console

from mnsa.cli.check import findings_table, summary_tables
from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.data.validation import validate
from mnsa.data.validation.validate import find_errors, require_valid, validate_dataset
from mnsa.errors import DataError


def break_dataset(folder: Path, *names: str) -> None:
    """Apply several of the broken data sets to one folder."""
    dataset = EditableDataset(folder)
    for broken in BROKEN_SETS:
        if broken.name in names:
            broken.change(dataset)
    dataset.save_table()


def render(*tables: Any) -> str:
    text = io.StringIO()
    Console(width=120, file=text).print(*tables)
    return text.getvalue()


# validate_dataset


def test_findings_of_all_kinds_are_listed_in_one_run_errors_first(own_dataset: Path) -> None:
    break_dataset(
        own_dataset, "group_in_two_splits", "absolute_path", "scale_that_is_not_a_number",
        "copy_in_the_same_split", "image_without_a_row", "first_half_of_a_png",
    )  # fmt: skip
    report = validate_dataset(own_dataset)
    assert [finding.kind for finding in report.findings] == [
        "bad-path", "bad-scale", "group-leak", "truncated", "duplicate", "unlisted-file"
    ]  # fmt: skip
    assert (report.errors, report.exit_code) == (4, 2)
    text = render(findings_table(report))
    assert all(finding.kind in text for finding in report.findings)
    assert "line 5: px_per_mm is 'wide'" in text


def test_findings_do_not_depend_on_the_number_of_processes(own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_dataset(own_dataset, "first_half_of_a_png", "rotated_training_image_in_test")
    report = validate_dataset(own_dataset)
    monkeypatch.setattr(validate, "_MIN_ROWS_FOR_PROCESSES", 0)
    assert validate_dataset(own_dataset, workers=2) == report
    assert {finding.kind for finding in report.findings} == {"truncated", "near-duplicate-across-splits"}


def test_worker_processes_import_neither_torch_nor_scipy() -> None:
    code = "import sys, mnsa.data.validation.validate, mnsa.cli.check\n"
    code += "assert not {'torch', 'scipy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_killed_worker_process_gives_an_error(own_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenPool:
        def __init__(self, *arguments: object, **options: object) -> None: ...

        def __enter__(self) -> "BrokenPool":
            return self

        def __exit__(self, *error: object) -> None: ...

        def map(self, *arguments: object, **options: object) -> None:
            raise BrokenProcessPool

    monkeypatch.setattr(validate, "_MIN_ROWS_FOR_PROCESSES", 0)
    monkeypatch.setattr(validate, "ProcessPoolExecutor", BrokenPool)
    with pytest.raises(DataError, match="was killed, probably because memory was full"):
        validate_dataset(own_dataset, workers=2)


def test_progress_is_called_for_every_row(dataset: Path) -> None:
    calls: list[tuple[int, int]] = []
    validate_dataset(dataset, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 18) for n in range(1, 19)]


def test_the_summary_has_the_numbers_of_the_files(own_dataset: Path) -> None:
    dataset = EditableDataset(own_dataset)
    dataset.rows[0]["px_per_mm"] = ""
    dataset.rows[1]["group"] = "p"
    dataset.save_table()
    summary = validate_dataset(own_dataset).summary
    assert summary is not None
    assert summary["splits"] == {"train": 12, "val": 3, "test": 3, "unused": 0}
    assert summary["classes"]["cultivar_02"] == {"train": 4, "val": 1, "test": 1, "unused": 0}
    assert summary["size"] == {"different": 1, "smallest": (64, 64), "median": (64, 64), "largest": (64, 64)}
    assert summary["px_per_mm"]["rows"] == 17
    assert (summary["groups"], summary["masks"]) == (1, 18)
    vein_fractions = [(read_array(dataset.mask_path(row)) > 0).mean() for row in dataset.rows]
    assert summary["foreground"] == {"vein": pytest.approx(sum(vein_fractions) / 18)}
    text = render(*summary_tables(summary))
    assert "known for 17 of 18 images" in text
    assert "cultivar_03" in text


def test_a_folder_without_a_data_set_gives_one_error(tmp_path: Path) -> None:
    report = validate_dataset(tmp_path)
    assert [finding.kind for finding in report.findings] == ["manifest"]
    assert "`mnsa import`" in report.findings[0].reason
    assert (report.summary, report.manifest) == (None, None)


# the report


def test_the_report_for_json_has_location_and_fix(own_dataset: Path) -> None:
    break_dataset(own_dataset, "misspelled_label")
    tree = json.loads(json.dumps(validate_dataset(own_dataset).to_dict()))
    assert (tree["errors"], tree["warnings"]) == (1, 0)
    (finding,) = tree["findings"]
    assert (finding["severity"], finding["kind"]) == ("error", "label-unknown")
    assert finding["location"].endswith("manifest.csv, line 4")
    assert finding["file"] == EditableDataset(own_dataset).rows[2]["image"]
    assert finding["fix"] == "Add it there, or correct the label"


def test_the_table_shows_ten_findings_of_a_kind(own_dataset: Path) -> None:
    for row in read_manifest(own_dataset).rows:
        (own_dataset / row.mask).unlink()
    report = validate_dataset(own_dataset)
    assert len(report.findings) == 18
    text = render(findings_table(report))
    assert text.count("does not exist") == 10
    assert "and 8 more of this kind" in text


def test_control_characters_in_a_file_name_are_escaped_in_the_table(own_dataset: Path) -> None:
    dataset = EditableDataset(own_dataset)
    dataset.rename(dataset.first, "image", "\x1b[2Jleaf [red].jpg").unlink()
    dataset.save_table()
    text = render(findings_table(validate_dataset(own_dataset)))
    assert "\x1b" not in text
    assert "\\x1b[2Jleaf [red].jpg" in text


# before training: find_errors and require_valid


@pytest.fixture
def broken_leaves(leaves: Manifest, tmp_path: Path) -> Manifest:
    """Six files of a valid data set broken, each in another way."""
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "1_mask.png").unlink()
    Image.fromarray(np.zeros((40, 39), np.uint8)).save(tmp_path / "3_mask.png")
    Image.fromarray(np.full((40, 40), 17, np.uint8)).save(tmp_path / "5_mask.png")
    (tmp_path / "link.png").symlink_to(tmp_path.parent)
    return replace(leaves, rows=(*leaves.rows, Row("link.png", label="a")))


def test_a_valid_data_set_has_no_errors(leaves: Manifest) -> None:
    assert find_errors(leaves) == []
    require_valid(leaves)


def test_errors_are_found_in_one_run_in_the_order_of_the_rows(broken_leaves: Manifest) -> None:
    errors = find_errors(broken_leaves)
    reasons = {
        "0.png": "0 bytes",
        "1_mask.png": "does not exist",
        "2.png": "is damaged",
        "3_mask.png": "has 39 x 40 pixels, but its image 3.png has 40 x 40",
        "5_mask.png": "pixel values 17",
        "link.png": "outside the data set's root",
    }
    assert [error.file for error in errors] == list(reasons)
    assert all(reasons[error.file] in error.reason for error in errors)


def test_the_exception_lists_the_errors_with_their_number_and_the_fix(broken_leaves: Manifest) -> None:
    with pytest.raises(DataError, match=r"leaves: 6 of its files can't be used:\n  0\.png") as caught:
        require_valid(broken_leaves)
    assert "remove their rows from manifest.csv" in str(caught.value)


def test_the_exception_lists_ten_errors_of_many(leaves: Manifest) -> None:
    absent = replace(leaves, rows=tuple(Row(f"absent{n}.png", label="a") for n in range(13)))
    with pytest.raises(DataError, match=r"(?s)13 of its files.*and 3 more") as caught:
        require_valid(absent)
    assert str(caught.value).count("does not exist") == 10


def test_progress_before_training_is_called_for_every_row(leaves: Manifest) -> None:
    calls: list[tuple[int, int]] = []
    require_valid(leaves, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 14) for n in range(1, 15)]
