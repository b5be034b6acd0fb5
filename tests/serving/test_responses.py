"""Files and images of responses: safe names, safe cells, and pixel values that survive the encoding."""

import csv
import io
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.inference.prediction_table import PredictionTable
from mnsa.serving.responses import (
    MAX_PREVIEW_PX,
    FileEntry,
    csv_file,
    encode_attention,
    encode_mask,
    encode_overlay,
    encode_preview,
    zip_file,
)
from mnsa.visualize.palette import class_color

TABLE = PredictionTable((), ("vein",), escape_formulas=True)


def open_image(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


def test_the_csv_file_has_a_row_per_entry_and_every_column() -> None:
    entries = [FileEntry("a.jpg", {"image": "a.jpg", "area_fraction_vein": "0.500000"}), FileEntry("b", {"error": "x"})]
    rows = list(csv.reader(io.StringIO(csv_file(TABLE, entries).decode())))
    assert rows == [["image", "area_fraction_vein", "error"], ["a.jpg", "0.500000", ""], ["", "", "x"]]


def test_archive_members_have_safe_unique_names() -> None:
    names = ("..", "C:a.jpg", "c_a.png", "a?.tif", ".jpg", "leaf.jpg", "LEAF.png", "a.b.jpg")
    table = PredictionTable((), ("vein",), escape_formulas=True, mask_files=True)
    data = zip_file(table, [FileEntry(name, {"image": name}, b"png", b"jpeg") for name in names])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        masks = [name for name in archive.namelist() if name.startswith("masks/")]
        rows = list(csv.DictReader(io.StringIO(archive.read("predictions.csv").decode())))
    assert [(row["image"], row["mask"]) for row in rows] == list(zip(names, masks, strict=True))
    stems = [name.removeprefix("masks/").removesuffix(".png") for name in masks]
    assert stems == ["image", "C_a", "c_a-2", "a_", "jpg", "leaf", "LEAF-2", "a.b"]


def test_a_mask_is_shown_in_the_palette_on_a_transparent_background() -> None:
    encoded = open_image(encode_mask(np.array([[0, 1], [2, 1]], np.uint8)))
    assert np.array(encoded).tolist() == [[0, 1], [2, 1]]
    shown = np.array(encoded.convert("RGBA"))
    assert shown[..., 3].tolist() == [[0, 255], [255, 255]]
    assert tuple(shown[0, 1, :3]) == class_color(1)
    assert tuple(shown[1, 0, :3]) == class_color(2)


def test_attention_keeps_its_values_to_half_a_gray_level() -> None:
    attention = np.random.default_rng(1).random((5, 7), np.float32)
    decoded = np.array(open_image(encode_attention(attention))) / 255
    np.testing.assert_allclose(decoded, attention, atol=0.5 / 255 + 1e-6)


def test_a_preview_is_small_and_keeps_its_proportions() -> None:
    assert open_image(encode_preview(np.zeros((40, 3000, 3), np.uint8))).size == (MAX_PREVIEW_PX, 17)
    assert open_image(encode_preview(np.zeros((40, 30, 3), np.uint8))).size == (30, 40)


def test_an_overlay_resizes_the_mask_to_the_image() -> None:
    mask = np.zeros((80, 160), np.uint8)
    mask[:, 80:] = 1
    overlay = np.array(open_image(encode_overlay(np.zeros((20, 40, 3), np.uint8), mask))).astype(int)
    assert overlay.shape == (20, 40, 3)
    assert overlay[:, :18].max() < 8
    np.testing.assert_allclose(overlay[10, 30], 0.6 * np.array(class_color(1)), atol=6)


@pytest.mark.parametrize("name", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@x.jpg"])
def test_a_file_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(csv_file(TABLE, [FileEntry(name, TABLE.error_row(name, "x"))]).decode()))
    assert row["image"] == f"'{name}"
