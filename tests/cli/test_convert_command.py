"""`mnsa convert` and `mnsa import` for the formats of other tools."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnsa.data.manifest import read_manifest


@pytest.mark.parametrize(
    ("format_name", "out", "verb"),
    [
        ("coco", "coco", ["coco", "coco/annotations", "--images", "coco/images"]),
        ("yolo", "yolo", ["yolo", "yolo"]),
        ("nnunet", "Dataset001_leaves", ["nnunet", "Dataset001_leaves"]),
        ("masks", "folders", ["masks", "folders/images", "folders/masks"]),
    ],
)
def test_a_converted_data_set_can_be_imported(
    mnsa: Callable[..., Any],
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_name: str,
    out: str,
    verb: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    converted = mnsa("convert", dataset, "--to", format_name, "--out", out)
    assert (converted.code, converted.out) == (0, f"18 images as {format_name}: {out}\n")
    imported = mnsa("import", *verb, "--out", "back")
    assert (imported.code, imported.out.splitlines()[0]) == (0, "18 images, 3 classes, 1 mask classes: back")
    assert sorted(row.label for row in read_manifest(tmp_path / "back").rows) == sorted(
        row.label for row in read_manifest(dataset).rows
    )


def test_convert_never_overwrites(refused: Callable[..., str], dataset: Path, tmp_path: Path) -> None:
    assert "exists already" in refused("convert", dataset, "--to", "coco", "--out", tmp_path)


def test_a_missing_annotation_file_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "There is no file" in refused(
        "import", "coco", tmp_path / "x.json", "--images", tmp_path, "--out", tmp_path / "set"
    )
