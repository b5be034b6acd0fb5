"""The contact sheet shows every class and split, and outlines of masks."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data.manifest import Manifest, Row, read_manifest
from mnsa.data.validation import contact_sheet
from mnsa.data.validation.contact_sheet import _choose_rows, write_contact_sheet
from mnsa.errors import DataError
from mnsa.visualize.palette import class_color


def has_outline(path: Path) -> bool:
    """Whether the sheet has a pixel in the color of mask class 1."""
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return bool((np.array(sheet) == class_color(1)).all(axis=-1).any())


def test_few_rows_of_many_are_chosen_from_every_class_and_split() -> None:
    rows = [Row(f"{n}", label="abc"[n % 3], split="train" if n < 90 else "val") for n in range(100)]
    chosen = _choose_rows(rows, 12)
    assert Counter((row.split, row.label) for row in chosen) == {
        (split, label): 2 for split in ("train", "val") for label in "abc"
    }
    assert [row.split for row in chosen] == ["train"] * 6 + ["val"] * 6


def test_never_more_rows_are_chosen_than_there_are_or_than_fit() -> None:
    rows = [Row(f"{n}", label=f"{n}") for n in range(100)]
    assert len(_choose_rows(rows, 500)) == 100
    assert len(_choose_rows(rows, 12)) <= 12
    assert _choose_rows([], 12) == []


def test_unreadable_files_are_left_out(own_dataset: Path, tmp_path: Path) -> None:
    manifest = read_manifest(own_dataset)
    (own_dataset / manifest.rows[0].image).write_bytes(b"")
    (own_dataset / manifest.rows[1].mask).unlink()
    assert write_contact_sheet(manifest, tmp_path / "sheet.png") == 16
    assert has_outline(tmp_path / "sheet.png")


def test_a_mask_of_another_size_is_not_drawn(leaves: Manifest, tmp_path: Path) -> None:
    row = leaves.rows[1]
    Image.new("L", (17, 40), 255).save(leaves.mask_path(row))
    write_contact_sheet(replace(leaves, rows=(row,)), tmp_path / "sheet.png")
    assert not has_outline(tmp_path / "sheet.png")


def test_a_tile_has_its_file_name_or_its_path_where_names_repeat_with_class_and_split(
    leaves: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[list[str]] = []
    monkeypatch.setattr(contact_sheet, "write_image_grid", lambda tiles, *_, **__: captions.extend(c for c, _ in tiles))
    source, *_ = leaves.rows
    pixels = (leaves.root / source.image).read_bytes()
    rows = []
    for image, label in (("p1/Blüte.jpg", "Ölbaum"), ("p1/top.jpg", ""), ("p2/top.jpg", "叶")):
        (leaves.root / image).parent.mkdir(exist_ok=True)
        (leaves.root / image).write_bytes(pixels)
        rows.append(Row(image, label=label, split="train"))
    write_contact_sheet(replace(leaves, rows=tuple(rows)), tmp_path / "sheet.png")
    assert {tuple(caption) for caption in captions} == {
        ("Blüte.jpg", "Ölbaum · train"),
        ("p1/top.jpg", "train"),
        ("p2/top.jpg", "叶 · train"),
    }


def test_no_sheet_is_written_without_images(leaves: Manifest, tmp_path: Path) -> None:
    assert write_contact_sheet(replace(leaves, rows=()), tmp_path / "sheet.png") == 0
    assert not (tmp_path / "sheet.png").exists()


def test_a_path_that_can_not_be_written_is_refused(leaves: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sheet\.png can't be written"):
        write_contact_sheet(leaves, tmp_path / "nowhere" / "sheet.png")
