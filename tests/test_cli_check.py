"""The verb check, as a shell runs it."""

import json
import shutil

import pytest
from PIL import Image

from mnsa.data.manifest import read_manifest


def test_check_says_that_all_is_well(mnsa, dataset, tmp_path):
    checked = mnsa("check", dataset, "--json", tmp_path / "faults.json", "--sheet", tmp_path / "sheet.png")
    assert (checked.code, checked.err) == (0, "")
    assert f"0 errors, 0 warnings: {dataset}" in checked.out
    assert "cultivar_03" in checked.out
    tree = json.loads((tmp_path / "faults.json").read_text())
    assert (tree["faults"], tree["summary"]["images"]) == ([], 18)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_check_ends_with_1_for_warnings_and_2_for_errors(mnsa, own_dataset, tmp_path):
    first, second, *_ = read_manifest(own_dataset).rows
    shutil.copy(own_dataset / first.image, own_dataset / "images" / "forgotten.jpg")
    warned = mnsa("check", own_dataset)
    assert warned.code == 1
    assert "0 errors, 1 warnings" in warned.out
    (own_dataset / second.image).write_bytes(b"")
    failed = mnsa("check", own_dataset, "--json", tmp_path / "faults.json")
    assert failed.code == 2
    assert "zero-byte" in failed.out
    assert "Restore the file" in failed.out
    kinds = [fault["kind"] for fault in json.loads((tmp_path / "faults.json").read_text())["faults"]]
    assert kinds == ["zero-byte", "unnamed-file"]


def test_check_of_what_is_no_data_set_says_so(mnsa, tmp_path):
    checked = mnsa("check", tmp_path, "--json", tmp_path / "faults.json", "--sheet", tmp_path / "sheet.png")
    assert checked.code == 2
    assert json.loads((tmp_path / "faults.json").read_text())["errors"] == 1
    assert not (tmp_path / "sheet.png").exists()


def test_a_file_with_a_name_of_raw_bytes_is_reported(mnsa, own_dataset, tmp_path):
    image = own_dataset / read_manifest(own_dataset).rows[0].image
    shutil.copy(image, image.with_name("bl\udce4tter.jpg"))  # Latin-1 on a disk of UTF-8
    checked = mnsa("check", own_dataset, "--json", tmp_path / "faults.json")
    assert (checked.code, "bl\\udce4tter.jpg" in checked.out) == (1, True)
    (fault,) = json.loads((tmp_path / "faults.json").read_text())["faults"]
    assert fault["file"] == "images/bl\udce4tter.jpg"


@pytest.mark.parametrize("option", ["--json", "--sheet"])
def test_check_overwrites_nothing(mnsa, dataset, tmp_path, option):
    (tmp_path / "precious").write_text("mine")
    assert "exists already" in mnsa("check", dataset, option, tmp_path / "precious").err
    assert (tmp_path / "precious").read_text() == "mine"
    assert mnsa("check", dataset, option, tmp_path / "nowhere" / "file").code == 2
