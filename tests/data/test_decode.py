"""Image and mask files of every format, valid and damaged, on disk and in memory."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.data import decode
from mnsa.data.decode import (
    BadFileError,
    open_image_bytes,
    read_image,
    read_mask,
    read_pixels,
    to_upright_rgb,
    unique_mask_values,
)
from mnsa.errors import DataError

RNG = np.random.default_rng(0)

RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


# images


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_formats_keep_the_pixels(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(Image.fromarray(RGB), tmp_path / f"x{suffix}"))
    assert np.array_equal(image.numpy(), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_tiff_is_read_with_every_compression(tmp_path: Path, compression: str) -> None:
    image = read_image(save(Image.fromarray(RGB), tmp_path / "X.TIF", compression=compression))
    assert np.array_equal(image.numpy(), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_every_mode_is_converted_to_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(RGB).convert(mode)
    image = read_image(save(source, tmp_path / "x.tif"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(source.convert("RGB")))


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    source = Image.fromarray(RGB).quantize(4)
    image = read_image(save(source, tmp_path / "x.png", transparency=b"\x00\x80\xff\xff"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(source.convert("RGB")))


def test_16_bit_gray_is_scaled_to_8_bits(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32_768, 65_535]], np.uint16)
    image = read_image(save(Image.fromarray(values), tmp_path / "x.png"))
    assert image[0].tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("kind", ["RGB", "16-bit gray"])
def test_a_tall_image_is_read_in_bands_without_an_error_at_their_borders(tmp_path: Path, kind: str) -> None:
    values = RNG.integers(0, 65_536, (2_500, 3), np.uint16)
    if kind == "RGB":
        source = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
        expected = source
    else:
        source, expected = values, np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, axis=2)
    image = read_image(save(Image.fromarray(source), tmp_path / "x.png"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_the_exif_orientation_of_a_photo_is_applied(tmp_path: Path) -> None:
    image = read_image(save(Image.fromarray(RGB), tmp_path / "x.png", exif=orientation(6)))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.rot90(RGB, -1))


# masks


def test_the_exif_orientation_of_a_mask_is_applied(tmp_path: Path) -> None:
    indices = RNG.integers(0, 2, (5, 7), np.uint8)
    mask = read_mask(save(Image.fromarray(indices), tmp_path / "m.png", exif=orientation(6)), 1)
    assert np.array_equal(mask.numpy(), np.rot90(indices, -1))


def test_a_mask_of_one_class_may_have_the_value_255_or_1(tmp_path: Path) -> None:
    indices = RNG.integers(0, 2, (5, 7), np.uint8)
    for name, source in {
        "one": Image.fromarray(indices),
        "255": Image.fromarray(indices * 255),
        "bits": Image.fromarray(indices.astype(bool)),
        "rgba": Image.fromarray(indices * 255).convert("RGBA"),
        "16-bit": Image.fromarray(indices.astype(np.uint16)),
    }.items():
        mask = read_mask(save(source, tmp_path / f"{name}.png"), 1)
        assert np.array_equal(mask.numpy(), indices), name


def test_an_indexed_mask_is_read_by_its_indices_and_not_by_its_colors(tmp_path: Path) -> None:
    indices = RNG.integers(0, 3, (5, 7), np.uint8)
    source = Image.fromarray(indices)
    source.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    assert np.array_equal(read_mask(save(source, tmp_path / "m.png"), 3).numpy(), indices)


def test_unique_mask_values_are_the_stored_values(tmp_path: Path) -> None:
    assert unique_mask_values(save(Image.fromarray(RGB[..., 0]), tmp_path / "m.png")) == set(RGB[..., 0].flat)


@pytest.mark.parametrize(
    ("values", "classes", "reason"),
    [
        ([0, 255, 7, 9], 1, r"pixel values 7, 9; expected 0 and 1 \(or 255\)"),
        ([0, 1, 2, 3], 3, "pixel values 3; expected 0 to 2"),
        ([0, 1, 255], 2, "pixel values 255; expected 0 to 1"),
        (list(range(100)), 1, r"2, 3, 4, 5, 6, 7, 8, 9, \.\.\."),
    ],
)
def test_mask_values_without_a_class_are_listed(tmp_path: Path, values: list[int], classes: int, reason: str) -> None:
    path = save(Image.fromarray(np.array([values], np.uint8)), tmp_path / "m.png")
    with pytest.raises(DataError, match=reason) as caught:
        read_mask(path, classes)
    assert str(path) in str(caught.value)


def test_a_mask_with_colors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.png has colors"):
        read_mask(save(Image.fromarray(RGB), tmp_path / "m.png"), 3)


def test_a_mask_with_fractions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.tif has float32 pixels"):
        read_mask(save(Image.fromarray(np.full((2, 2), 0.5, np.float32)), tmp_path / "m.tif"), 1)


# damaged and oversized files


def write_invalid_files(folder: Path) -> dict[Path, str]:
    """Files that can't be read, and a part of the error message of each."""
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = save(Image.fromarray(noise), folder / "valid.jpg").read_bytes()
    contents = {
        "empty.jpg": (b"", r"empty \(0 bytes\)"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "is damaged"),
        "text.png": (b"not an image", "is not an image"),
        "header.png": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "is (damaged|not an image)"),
        "image.gif": (b"GIF89a" + b"\x00" * 40, "is not an image"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(folder / "float.tif")
    (folder / "folder.png").mkdir()
    return {folder / name: reason for name, (_, reason) in contents.items()} | {
        folder / "gone.png": "does not exist",
        folder / "float.tif": "32-bit pixels",
        folder / "folder.png": "is not an image, but a folder",
    }


def test_the_error_about_an_invalid_image_has_its_path(tmp_path: Path) -> None:
    for path, reason in write_invalid_files(tmp_path).items():
        with pytest.raises(DataError, match=reason) as caught:
            read_image(path)
        assert str(path) in str(caught.value)


def test_an_image_above_the_pixel_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.fromarray(RGB), tmp_path / "x.png")
    monkeypatch.setattr(decode, "MAX_PIXELS", 34)
    with pytest.raises(DataError, match=r"x\.png has 7 x 5 pixels"):
        read_image(path)


def test_a_large_scan_within_the_limit_is_read_without_a_warning(tmp_path: Path) -> None:
    path = save(Image.new("1", (10_000, 9_500)), tmp_path / "scan.png")  # above Pillow's own limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unique_mask_values(path) == {0}


# images in memory


def encode(image_format: str, size: tuple[int, int] = (6, 4), **options: Any) -> bytes:
    """An encoded image of noise; size: width and height."""
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, image_format, **options)
    return content.getvalue()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_bytes_are_decoded_like_a_file(image_format: str, tmp_path: Path) -> None:
    data = encode(image_format) if image_format == "BMP" else encode(image_format, exif=orientation(6))
    (tmp_path / "a").write_bytes(data)
    with open_image_bytes(data, "a") as image:
        pixels = np.array(to_upright_rgb(image, tmp_path / "a"))
    np.testing.assert_array_equal(pixels, read_pixels(tmp_path / "a"))


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (b"", {"zero-byte"}),
        (b"text", {"unreadable"}),
        (encode("GIF"), {"unreadable"}),
        (encode("PNG")[:60], {"unreadable", "truncated"}),
    ],
)
def test_bytes_that_are_not_an_image_give_an_error_of_a_kind(data: bytes, kinds: set[str]) -> None:
    with pytest.raises(BadFileError, match=r"^a\.png ") as refused, open_image_bytes(data, "a.png") as image:
        image.load()
    assert refused.value.kind in kinds


def test_bytes_above_the_pixel_limit_are_refused_before_they_are_decoded() -> None:
    opened = open_image_bytes(encode("PNG"), "a.png", max_pixels=23)
    with pytest.raises(BadFileError, match="6 x 4 pixels; the limit is 23") as refused, opened:
        pytest.fail("it was opened")
    assert refused.value.kind == "decompression-bomb"
    with open_image_bytes(encode("PNG"), "a.png", max_pixels=24) as image:
        assert image.size == (6, 4)


def test_the_file_with_the_name_of_the_bytes_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "there.png"
    path.write_bytes(encode("PNG"))
    with pytest.raises(BadFileError, match="is not an image"), open_image_bytes(b"no image", str(path)):
        pass
