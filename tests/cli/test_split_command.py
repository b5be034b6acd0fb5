"""`mnsa split`: new data sets from the same images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnsa.data.manifest import read_manifest


def test_split_writes_a_new_data_set_with_the_same_images(
    mnsa: Callable[..., Any], dataset: Path, tmp_path: Path
) -> None:
    before = read_manifest(dataset)
    result = mnsa(
        "split", dataset, "--val-fraction", 0.3, "--test-fraction", 0.3, "--seed", 2, "--out", tmp_path / "split"
    )
    assert (result.code, result.out) == (0, f"7 train, 6 val, 5 test, 0 unused: {tmp_path / 'split'}\n")
    after = read_manifest(tmp_path / "split")
    assert (after.root, after.classes, after.mask_classes) == (before.root, before.classes, before.mask_classes)
    assert [(row.image, row.mask, row.extra) for row in after.rows] == [
        (row.image, row.mask, row.extra) for row in before.rows
    ]
    assert mnsa("check", tmp_path / "split").code == 0


def test_split_into_folds_and_with_few_training_images(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    fold = mnsa("split", dataset, "--num-folds", 3, "--fold", 0, "--out", tmp_path / "fold")
    assert "10 train, 5 val, 3 test, 0 unused" in fold.out
    few = mnsa("split", tmp_path / "fold", "--train-per-class", 2, "--out", tmp_path / "few")
    assert "6 train, 5 val, 3 test, 4 unused" in few.out


def test_split_reports_a_class_that_is_not_in_every_split(
    mnsa: Callable[..., Any], own_dataset: Path, tmp_path: Path
) -> None:
    table = own_dataset / "manifest.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if "cultivar_02_000" not in line or "_0000" in line))
    result = mnsa("split", own_dataset, "--val-fraction", 0.2, "--test-fraction", 0.2, "--out", tmp_path / "split")
    assert result.code == 0
    assert "Class 'cultivar_02' is not in every split (1 images" in result.out
    assert "1 in train; none in val and test." in result.out


def test_split_refuses_a_group_in_train_and_test(mnsa: Callable[..., Any], own_dataset: Path, tmp_path: Path) -> None:
    table = own_dataset / "manifest.csv"
    lines = table.read_text().splitlines()
    for number in (1, 6):  # a training and a test image of one plant
        cells = lines[number].split(",")
        lines[number] = ",".join([*cells[:4], "plant 7", *cells[5:]])
    table.write_text("\n".join(lines) + "\n")
    result = mnsa("split", own_dataset, "--val-fraction", 0.2, "--out", tmp_path / "split")
    assert result.code == 2
    assert "group 'plant 7' is in train and test" in result.err
    assert not (tmp_path / "split").exists()


def test_split_without_options_is_an_error(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    assert "Nothing to split" in mnsa("split", dataset, "--out", tmp_path / "split").err
