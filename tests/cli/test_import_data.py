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
    first, hint = imported.out.splitlines()
    assert (imported.code, first) == (0, f"18 images, 3 classes, 0 mask classes: {tmp_path / 'set'}")
    assert "no test split" in hint
    assert mnsa(*hint.partition("mnsa ")[2].split()).code == 0
    assert read_manifest(tmp_path / "set-split").split("test").rows
    assert mnsa("check", tmp_path / "set").code == 0


def test_import_zip_has_a_size_limit(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("a/1.bmp", bytes(2_000_000))
    refused = mnsa("import", "zip", tmp_path / "big.zip", "--max-gigabytes", 0.001, "--out", tmp_path / "set")
    assert refused.code == 2
    assert "at most 1,000,000 are unpacked (--max-gigabytes)" in refused.err
    assert not (tmp_path / "set").exists()
