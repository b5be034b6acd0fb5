"""The verbs check, split and import zip, as a shell runs them."""

import json
import shutil
import zipfile

import pytest
from PIL import Image

from mnsa.data.manifest import read_manifest


def test_check_says_that_all_is_well(mnsa, dataset, tmp_path):
    checked = mnsa("check", dataset, "--json", tmp_path / "findings.json", "--contact-sheet", tmp_path / "sheet.png")
    assert (checked.code, checked.err) == (0, "")
    assert f"0 errors, 0 warnings: {dataset}" in checked.out
    assert "cultivar_03" in checked.out
    tree = json.loads((tmp_path / "findings.json").read_text())
    assert (tree["findings"], tree["summary"]["images"]) == ([], 18)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_check_ends_with_1_for_warnings_and_2_for_errors(mnsa, own_dataset, tmp_path):
    first, second, *_ = read_manifest(own_dataset).rows
    shutil.copy(own_dataset / first.image, own_dataset / "images" / "forgotten.jpg")
    warned = mnsa("check", own_dataset)
    assert warned.code == 1
    assert "0 errors, 1 warnings" in warned.out
    (own_dataset / second.image).write_bytes(b"")
    failed = mnsa("check", own_dataset, "--json", tmp_path / "findings.json")
    assert failed.code == 2
    assert "zero-byte" in failed.out
    assert "Restore the file" in failed.out
    kinds = [finding["kind"] for finding in json.loads((tmp_path / "findings.json").read_text())["findings"]]
    assert kinds == ["zero-byte", "unlisted-file"]


def test_check_of_what_is_no_data_set_says_so(mnsa, tmp_path):
    checked = mnsa("check", tmp_path, "--json", tmp_path / "findings.json", "--contact-sheet", tmp_path / "sheet.png")
    assert checked.code == 2
    assert json.loads((tmp_path / "findings.json").read_text())["errors"] == 1
    assert not (tmp_path / "sheet.png").exists()


def test_a_file_with_a_name_of_raw_bytes_is_reported(mnsa, own_dataset, tmp_path):
    image = own_dataset / read_manifest(own_dataset).rows[0].image
    shutil.copy(image, image.with_name("bl\udce4tter.jpg"))  # Latin-1 on a disk of UTF-8
    checked = mnsa("check", own_dataset, "--json", tmp_path / "findings.json")
    assert (checked.code, "bl\\udce4tter.jpg" in checked.out) == (1, True)
    (finding,) = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert finding["file"] == "images/bl\udce4tter.jpg"


@pytest.mark.parametrize("option", ["--json", "--contact-sheet"])
def test_check_overwrites_nothing(mnsa, dataset, tmp_path, option):
    (tmp_path / "precious").write_text("mine")
    assert "exists already" in mnsa("check", dataset, option, tmp_path / "precious").err
    assert (tmp_path / "precious").read_text() == "mine"
    assert mnsa("check", dataset, option, tmp_path / "nowhere" / "file").code == 2


def test_split_writes_another_data_set_over_the_same_images(mnsa, dataset, tmp_path):
    before = read_manifest(dataset)
    dealt = mnsa(
        "split", dataset, "--val-fraction", 0.3, "--test-fraction", 0.3, "--seed", 2, "--out", tmp_path / "dealt"
    )
    assert (dealt.code, dealt.out) == (0, f"7 train, 6 val, 5 test, 0 unused: {tmp_path / 'dealt'}\n")
    after = read_manifest(tmp_path / "dealt")
    assert (after.root, after.classes, after.mask_classes) == (before.root, before.classes, before.mask_classes)
    assert [(row.image, row.mask, row.extra) for row in after.rows] == [
        (row.image, row.mask, row.extra) for row in before.rows
    ]
    assert mnsa("check", tmp_path / "dealt").code == 0


def test_split_makes_folds_and_few_shots(mnsa, dataset, tmp_path):
    fold = mnsa("split", dataset, "--num-folds", 3, "--fold", 0, "--out", tmp_path / "fold")
    assert "10 train, 5 val, 3 test, 0 unused" in fold.out
    few = mnsa("split", tmp_path / "fold", "--train-per-class", 2, "--out", tmp_path / "few")
    assert "6 train, 5 val, 3 test, 4 unused" in few.out


def test_split_says_what_became_of_a_small_class(mnsa, own_dataset, tmp_path):
    table = own_dataset / "manifest.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if "cultivar_02_000" not in line or "_0000" in line))
    dealt = mnsa("split", own_dataset, "--val-fraction", 0.2, "--test-fraction", 0.2, "--out", tmp_path / "dealt")
    assert dealt.code == 0
    assert "Class 'cultivar_02' is not in every split (1 images" in dealt.out
    assert "1 in train; none in val and test." in dealt.out


def test_split_refuses_a_leak_by_name(mnsa, own_dataset, tmp_path):
    table = own_dataset / "manifest.csv"
    lines = table.read_text().splitlines()
    for number in (1, 6):  # a training and a test image of one plant
        cells = lines[number].split(",")
        lines[number] = ",".join([*cells[:4], "plant 7", *cells[5:]])
    table.write_text("\n".join(lines) + "\n")
    dealt = mnsa("split", own_dataset, "--val-fraction", 0.2, "--out", tmp_path / "dealt")
    assert dealt.code == 2
    assert "group 'plant 7' is in train and test" in dealt.err
    assert not (tmp_path / "dealt").exists()


def test_split_without_a_plan_is_refused(mnsa, dataset, tmp_path):
    assert "Nothing to split" in mnsa("split", dataset, "--out", tmp_path / "dealt").err


def test_import_zip_makes_a_data_set_that_checks_clean(mnsa, dataset, tmp_path):
    with zipfile.ZipFile(tmp_path / "leaves.zip", "w") as archive:
        for row in read_manifest(dataset).rows:
            archive.write(dataset / row.image, f"photos/{row.label}/{row.image.rsplit('/', 1)[1]}")
    imported = mnsa("import", "zip", tmp_path / "leaves.zip", "--out", tmp_path / "set")
    assert (imported.code, imported.out) == (0, f"18 images, 3 classes, 0 mask classes: {tmp_path / 'set'}\n")
    assert mnsa("check", tmp_path / "set").code == 0


def test_import_zip_refuses_more_than_agreed(mnsa, tmp_path):
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("a/1.bmp", bytes(2_000_000))
    refused = mnsa("import", "zip", tmp_path / "big.zip", "--max-gigabytes", 0.001, "--out", tmp_path / "set")
    assert refused.code == 2
    assert "at most 1,000,000 are unpacked (--max-gigabytes)" in refused.err
    assert not (tmp_path / "set").exists()
