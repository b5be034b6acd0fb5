"""The sheet for the eye: borders where the masks' are, every class and split in it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.data.validation.contact_sheet import _choose_rows, write_contact_sheet
from mnsa.errors import DataError
from mnsa.visualize.palette import class_color


def where_drawn(pixels: np.ndarray, index: int) -> np.ndarray:
    return (pixels == class_color(index)).all(axis=-1)


def test_a_few_rows_of_many_are_of_every_class_and_split() -> None:
    rows = [Row(f"{n}", label="abc"[n % 3], split="train" if n < 90 else "val") for n in range(100)]
    chosen = _choose_rows(rows, 12)
    assert Counter((row.split, row.label) for row in chosen) == {
        (split, label): 2 for split in ("train", "val") for label in "abc"
    }
    assert [row.split for row in chosen] == ["train"] * 6 + ["val"] * 6
    assert len(_choose_rows(rows, 500)) == 100
    assert len(_choose_rows([Row(f"{n}", label=f"{n}") for n in range(100)], 12)) <= 12
    assert _choose_rows([], 12) == []


def test_the_sheet_leaves_out_what_cannot_be_read(own_dataset: Path, tmp_path: Path) -> None:
    manifest = read_manifest(own_dataset)
    (own_dataset / manifest.rows[0].image).write_bytes(b"")
    (own_dataset / manifest.rows[1].mask).unlink()
    assert write_contact_sheet(manifest, tmp_path / "sheet.png") == 16
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert where_drawn(np.array(sheet), 1).any()


def test_a_mask_of_another_size_is_not_drawn(leaves: Manifest, tmp_path: Path) -> None:
    row = leaves.rows[1]
    Image.new("L", (17, 40), 255).save(leaves.mask_path(row))
    write_contact_sheet(replace(leaves, rows=(row,)), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert not where_drawn(np.array(sheet), 1).any()


def test_nothing_to_draw_is_no_sheet_and_no_folder_is_an_error(leaves: Manifest, tmp_path: Path) -> None:
    assert write_contact_sheet(replace(leaves, rows=()), tmp_path / "sheet.png") == 0
    assert not (tmp_path / "sheet.png").exists()
    with pytest.raises(DataError, match=r"sheet\.png can't be written"):
        write_contact_sheet(leaves, tmp_path / "nowhere" / "sheet.png")
