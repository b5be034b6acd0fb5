"""`mnsa import zip`."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnsa import __version__
from mnsa.data.manifest import read_manifest


def test_the_version_is_printed(mnsa: Callable[..., Any]) -> None:
    ending = mnsa("--version")
    assert (ending.code, ending.out) == (0, f"mnsa {__version__}\n")


def test_import_zip_writes_a_valid_data_set(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "leaves.zip", "w") as archive:
        for row in read_manifest(dataset).rows:
            archive.write(dataset / row.image, f"photos/{row.label}/{row.image.rsplit('/', 1)[1]}")
    imported = mnsa("import", "zip", tmp_path / "leaves.zip", "--out", tmp_path / "set")
    first, *_, hint = imported.out.splitlines()
    assert (imported.code, first) == (0, f"18 images, 3 classes, 0 mask classes: {tmp_path / 'set'}")
    assert "no test split" in hint
    assert mnsa(*hint.partition("mnsa ")[2].split()).code == 0
    assert read_manifest(tmp_path / "set-split").split("test").rows
    assert mnsa("check", tmp_path / "set").code == 0


def test_import_says_what_it_found(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    table = ("csv", dataset / "manifest.csv", "--mask", "mask", "--label", "label", "--split", "split")
    imported = mnsa("import", *table, "--mask-class", "vein", "--out", tmp_path / "set")
    assert imported.out.splitlines()[1:] == [
        "Classes: cultivar_01 6, cultivar_02 6, cultivar_03 6.",
        "Masks: 18; 0 background, 1 or 255 vein; the first 12 have the values 0, 255.",
        "Splits: 12 train, 3 val, 3 test. Images of one group stay together; `mnsa split` makes other splits.",
    ]
    again = mnsa("import", *table, "--test-fraction", 0.5, "--out", tmp_path / "again")
    assert "--test-fraction was not used" in again.out
    assert read_manifest(tmp_path / "again").rows == read_manifest(tmp_path / "set").rows


def test_a_test_split_is_held_out_on_request(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    table = ("csv", dataset / "manifest.csv", "--label", "label")
    ended = mnsa("import", *table, "--test-fraction", 1 / 6, "--val-fraction", 0.34, "--out", tmp_path / "set")
    assert "Splits: 9 train, 6 val, 3 test" in ended.out
    assert "There is no test split" not in ended.out
    rows = read_manifest(tmp_path / "set").rows
    assert {row.label for row in rows if row.split == "test"} == {"cultivar_01", "cultivar_02", "cultivar_03"}


def test_a_test_split_that_leaves_nothing_to_train_is_refused(
    refused: Callable[..., str], dataset: Path, tmp_path: Path
) -> None:
    message = refused(
        "import", "csv", dataset / "manifest.csv", "--label", "label", "--val-fraction", 0.5, "--test-fraction", 0.6,
        "--out", tmp_path / "set",
    )  # fmt: skip
    assert f"too few for a test split of 0.6. Make one with: mnsa split {tmp_path / 'set'}" in message
    assert not read_manifest(tmp_path / "set").split("test").rows


def test_import_zip_has_a_size_limit(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("a/1.bmp", bytes(2_000_000))
    refused = mnsa("import", "zip", tmp_path / "big.zip", "--max-gigabytes", 0.001, "--out", tmp_path / "set")
    assert refused.code == 2
    assert "at most 1,000,000 are unpacked (--max-gigabytes)" in refused.err
    assert not (tmp_path / "set").exists()
