"""TIFF files as ImageJ, microscopes and slide scanners write them, with tifffile as the writer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from field_inputs import Command, write_photo

from mnsa.data.decode import BadFileError, read_mask_indices, read_pixels

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (24, 32, 3), np.uint8)
GRAY = RNG.integers(0, 65_536, (24, 32), np.uint16)
VEIN = np.zeros((24, 32), np.uint8)
VEIN[2:20, 8] = 255

PHOTOS: dict[str, Callable[[Path], object]] = {
    "ImageJ": lambda path: tifffile.imwrite(path, COLORS, imagej=True, resolution=(40, 40), metadata={"unit": "mm"}),
    "BigTIFF": lambda path: tifffile.imwrite(path, COLORS, bigtiff=True),
    "big-endian": lambda path: tifffile.imwrite(path, COLORS, byteorder=">"),
    "tiles": lambda path: tifffile.imwrite(path, COLORS, tile=(16, 16)),
    "deflate": lambda path: tifffile.imwrite(path, COLORS, compression="zlib"),
    "pages": lambda path: tifffile.imwrite(path, np.stack([COLORS, 255 - COLORS]), photometric="rgb"),
}


@pytest.mark.parametrize("kind", PHOTOS)
def test_a_photo_has_the_pixels_of_its_first_page(tmp_path: Path, kind: str) -> None:
    PHOTOS[kind](tmp_path / "x.tif")
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.tif"), COLORS)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("imagej", [True, False])
def test_16_bits_are_scaled_to_8(tmp_path: Path, byteorder: Any, imagej: bool) -> None:
    tifffile.imwrite(tmp_path / "x.tif", GRAY, imagej=imagej, byteorder=None if imagej else byteorder)
    expected = np.round(GRAY / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.tif"), np.stack([expected] * 3, axis=-1))


def test_a_big_endian_bigtiff_is_named(tmp_path: Path) -> None:
    """Pillow does not read its tags."""
    tifffile.imwrite(tmp_path / "x.tif", COLORS, bigtiff=True, byteorder=">")
    with pytest.raises(BadFileError, match=r"x\.tif is a BigTIFF of big-endian byte order.*or as PNG"):
        read_pixels(tmp_path / "x.tif")


def test_32_bits_are_refused_by_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", GRAY.astype(np.float32), imagej=True)
    with pytest.raises(BadFileError, match=r"x\.tif has 32-bit pixels"):
        read_pixels(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (GRAY.astype(np.float64), "is a TIFF that is damaged, or whose pixels are not read"),
        (np.dstack([COLORS, COLORS[..., :2]]), "is a TIFF that is damaged, or whose pixels are not read"),
        ((COLORS[..., 0] // 2).astype(np.int8), "has signed pixels"),
        (GRAY.astype(np.int16), "has signed pixels"),
    ],
)
def test_other_pixels_are_refused_by_name(tmp_path: Path, pixels: np.ndarray, reason: str) -> None:
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadFileError, match=reason):
        read_pixels(tmp_path / "x.tif")


@pytest.mark.parametrize("channels", [3, 4])
def test_12_bits_in_16_are_refused_with_and_without_alpha(tmp_path: Path, channels: int) -> None:
    values = np.dstack([COLORS, COLORS[..., :1]])[..., :channels].astype(np.uint16) * 16
    values[..., 3:] = 65_535  # opaque
    extra: dict[str, Any] = {"extrasamples": [2]} if channels == 4 else {}
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", **extra)
    with pytest.raises(BadFileError, match="as cameras of 12 bits write"):
        read_pixels(tmp_path / "x.tif")


@pytest.mark.parametrize("options", [{"imagej": True}, {"bigtiff": True}, {"photometric": "minisblack"}])
def test_a_mask_has_the_numbers_that_tifffile_writes(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "m.tif", VEIN, **options)
    np.testing.assert_array_equal(read_mask_indices(tmp_path / "m.tif", 1), VEIN // 255)


def test_a_mask_in_which_0_is_white_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", VEIN, photometric="miniswhite")
    with pytest.raises(BadFileError, match="0 is white"):
        read_mask_indices(tmp_path / "m.tif", 1)


def test_check_names_files_with_several_pages(mnsa: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(3):
            write_photo(tmp_path / "in" / name / f"{number}.png", ord(name) + number)
    PHOTOS["pages"](tmp_path / "in/a/pages.tif")
    assert mnsa("import", "folders", tmp_path / "in", "--out", tmp_path / "out").code == 0
    found = mnsa("check", tmp_path / "out").out
    assert "animated" in found
    assert "a/pages.tif" in found
