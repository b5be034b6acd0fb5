"""`mnsa check`: output, exit codes and files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnsa.data.manifest import read_manifest


def test_check_of_a_valid_data_set(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    checked = mnsa("check", dataset, "--out", tmp_path / "findings.json", "--contact-sheet", tmp_path / "sheet.png")
    assert (checked.code, checked.err) == (0, "")
    assert f"0 errors, 0 warnings: {dataset}" in checked.out
    assert "cultivar_03" in checked.out
    tree = json.loads((tmp_path / "findings.json").read_text())
    assert (tree["findings"], tree["summary"]["images"]) == ([], 18)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_check_exits_with_1_for_warnings_and_2_for_errors(
    mnsa: Callable[..., Any], own_dataset: Path, tmp_path: Path
) -> None:
    first, second, *_ = read_manifest(own_dataset).rows
    shutil.copy(own_dataset / first.image, own_dataset / "images" / "forgotten.jpg")
    warned = mnsa("check", own_dataset)
    assert warned.code == 1
    assert "0 errors, 1 warnings" in warned.out
    (own_dataset / second.image).write_bytes(b"")
    failed = mnsa("check", own_dataset, "--out", tmp_path / "findings.json")
    assert failed.code == 2
    assert "zero-byte" in failed.out
    assert "Restore the file" in failed.out
    kinds = [finding["kind"] for finding in json.loads((tmp_path / "findings.json").read_text())["findings"]]
    assert kinds == ["zero-byte", "unlisted-file"]


def test_check_of_a_folder_without_a_data_set(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    checked = mnsa("check", tmp_path, "--out", tmp_path / "findings.json", "--contact-sheet", tmp_path / "sheet.png")
    assert checked.code == 2
    assert json.loads((tmp_path / "findings.json").read_text())["errors"] == 1
    assert not (tmp_path / "sheet.png").exists()


def test_check_reports_a_file_name_that_is_not_utf_8(
    mnsa: Callable[..., Any], own_dataset: Path, tmp_path: Path
) -> None:
    image = own_dataset / read_manifest(own_dataset).rows[0].image
    shutil.copy(image, image.with_name("bl\udce4tter.jpg"))  # Latin-1 on a disk of UTF-8
    checked = mnsa("check", own_dataset, "--out", tmp_path / "findings.json")
    assert (checked.code, "bl\\udce4tter.jpg" in checked.out) == (1, True)
    (finding,) = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert finding["file"] == "images/bl\udce4tter.jpg"


@pytest.mark.parametrize("option", ["--out", "--contact-sheet"])
def test_check_overwrites_nothing(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "precious").write_text("mine")
    assert "exists already" in mnsa("check", dataset, option, tmp_path / "precious").err
    assert (tmp_path / "precious").read_text() == "mine"
    assert mnsa("check", dataset, option, tmp_path / "nowhere" / "file").code == 2
