"""`mnsa import zip`."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnsa.data.manifest import read_manifest


def test_import_zip_writes_a_valid_data_set(mnsa: Callable[..., Any], dataset: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "leaves.zip", "w") as archive:
        for row in read_manifest(dataset).rows:
            archive.write(dataset / row.image, f"photos/{row.label}/{row.image.rsplit('/', 1)[1]}")
    imported = mnsa("import", "zip", tmp_path / "leaves.zip", "--out", tmp_path / "set")
    assert (imported.code, imported.out) == (0, f"18 images, 3 classes, 0 mask classes: {tmp_path / 'set'}\n")
    assert mnsa("check", tmp_path / "set").code == 0


def test_import_zip_has_a_size_limit(mnsa: Callable[..., Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        archive.writestr("a/1.bmp", bytes(2_000_000))
    refused = mnsa("import", "zip", tmp_path / "big.zip", "--max-gigabytes", 0.001, "--out", tmp_path / "set")
    assert refused.code == 2
    assert "at most 1,000,000 are unpacked (--max-gigabytes)" in refused.err
    assert not (tmp_path / "set").exists()
