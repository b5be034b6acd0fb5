"""Image and mask files of every format, honest and damaged, as files and as bytes."""

import io
import warnings
from pathlib import Path

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


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_formats_give_back_the_pixels(tmp_path: Path, suffix: str) -> None:
    image = read_image(saved(Image.fromarray(RGB), tmp_path / f"x{suffix}"))
    assert np.array_equal(image.numpy(), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits"])
def test_a_tiff_is_read_however_it_is_compressed(tmp_path: Path, compression: str) -> None:
    image = read_image(saved(Image.fromarray(RGB), tmp_path / "X.TIF", compression=compression))
    assert np.array_equal(image.numpy(), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_every_mode_becomes_rgb_as_pillow_converts_it(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(RGB).convert(mode)
    image = read_image(saved(source, tmp_path / "x.tif"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(source.convert("RGB")))


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    source = Image.fromarray(RGB).quantize(4)
    image = read_image(saved(source, tmp_path / "x.png", transparency=b"\x00\x80\xff\xff"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(source.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 32_768, 65_535]], np.uint16)
    image = read_image(saved(Image.fromarray(wide), tmp_path / "x.png"))
    assert image[0].tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("kind", ["RGB", "gray of 16 bits"])
def test_a_tall_picture_is_read_in_bands_without_a_seam(tmp_path: Path, kind: str) -> None:
    tall = RNG.integers(0, 65_536, (2_500, 3), np.uint16)
    if kind == "RGB":
        source = np.repeat((tall >> 8).astype(np.uint8)[..., None], 3, axis=2)
        expected = source
    else:
        source, expected = tall, np.repeat(np.round(tall / 257).astype(np.uint8)[..., None], 3, axis=2)
    image = read_image(saved(Image.fromarray(source), tmp_path / "x.png"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise by 90 degrees
    image = read_image(saved(Image.fromarray(RGB), tmp_path / "x.png", exif=exif))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.rot90(RGB, -1))


def test_a_mask_that_was_saved_sideways_is_turned_upright(tmp_path: Path) -> None:
    truth = RNG.integers(0, 2, (5, 7), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = read_mask(saved(Image.fromarray(truth), tmp_path / "m.png", exif=exif), 1)
    assert np.array_equal(mask.numpy(), np.rot90(truth, -1))


def test_a_binary_mask_may_be_written_with_255_or_with_1(tmp_path: Path) -> None:
    truth = RNG.integers(0, 2, (5, 7), np.uint8)
    for name, source in {
        "ones": Image.fromarray(truth),
        "bytes": Image.fromarray(truth * 255),
        "bits": Image.fromarray(truth.astype(bool)),
        "rgba": Image.fromarray(truth * 255).convert("RGBA"),
        "wide": Image.fromarray(truth.astype(np.uint16)),
    }.items():
        mask = read_mask(saved(source, tmp_path / f"{name}.png"), 1)
        assert np.array_equal(mask.numpy(), truth), name


def test_an_indexed_mask_gives_its_indices_and_not_its_colours(tmp_path: Path) -> None:
    truth = RNG.integers(0, 3, (5, 7), np.uint8)
    source = Image.fromarray(truth)
    source.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    assert np.array_equal(read_mask(saved(source, tmp_path / "m.png"), 3).numpy(), truth)


@pytest.mark.parametrize(
    ("values", "classes", "reason"),
    [
        ([0, 255, 7, 9], 1, r"pixel values 7, 9; expected 0 and 1 \(or 255\)"),
        ([0, 1, 2, 3], 3, "pixel values 3; expected 0 to 2"),
        ([0, 1, 255], 2, "pixel values 255; expected 0 to 1"),
        (list(range(100)), 1, r"2, 3, 4, 5, 6, 7, 8, 9, \.\.\."),
    ],
)
def test_mask_values_that_stand_for_no_class_are_named(
    tmp_path: Path, values: list[int], classes: int, reason: str
) -> None:
    path = saved(Image.fromarray(np.array([values], np.uint8)), tmp_path / "m.png")
    with pytest.raises(DataError, match=reason) as caught:
        read_mask(path, classes)
    assert str(path) in str(caught.value)


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.png has colors"):
        read_mask(saved(Image.fromarray(RGB), tmp_path / "m.png"), 3)


def test_a_mask_of_fractions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.tif has float32 pixels"):
        read_mask(saved(Image.fromarray(np.full((2, 2), 0.5, np.float32)), tmp_path / "m.tif"), 1)


def broken_files(folder: Path) -> dict[Path, str]:
    whole = saved(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), folder / "whole.jpg").read_bytes()
    content = {
        "empty.jpg": (b"", r"empty \(0 bytes\)"),
        "truncated.jpg": (whole[: len(whole) // 2], "is damaged"),
        "text.png": (b"not an image", "is not an image"),
        "header.png": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "is (damaged|not an image)"),
        "picture.gif": (b"GIF89a" + b"\x00" * 40, "is not an image"),
    }
    for name, (data, _) in content.items():
        (folder / name).write_bytes(data)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(folder / "float.tif")
    (folder / "folder.png").mkdir()
    return {folder / name: reason for name, (_, reason) in content.items()} | {
        folder / "gone.png": "does not exist",
        folder / "float.tif": "32-bit pixels",
        folder / "folder.png": "is not an image, but a folder",
    }


def test_a_broken_image_is_named_in_the_error(tmp_path: Path) -> None:
    for path, reason in broken_files(tmp_path).items():
        with pytest.raises(DataError, match=reason) as caught:
            read_image(path)
        assert str(path) in str(caught.value)


def test_an_image_larger_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.fromarray(RGB), tmp_path / "x.png")
    monkeypatch.setattr(decode, "MAX_PIXELS", 34)
    with pytest.raises(DataError, match=r"x\.png has 7 x 5 pixels"):
        read_image(path)


def test_a_large_scan_within_the_limit_is_read_in_silence(tmp_path: Path) -> None:
    path = saved(Image.new("1", (10_000, 9_500)), tmp_path / "scan.png")  # beyond Pillow's own limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unique_mask_values(path) == {0}


def encoded(form, size=(6, 4), **options):
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_bytes_are_read_as_a_file_is(form, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(form) if form == "BMP" else encoded(form, exif=exif)
    (tmp_path / "a").write_bytes(data)
    with open_image_bytes(data, "a") as image:
        pixels = np.array(to_upright_rgb(image, tmp_path / "a"))
    np.testing.assert_array_equal(pixels, read_pixels(tmp_path / "a"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"", "zero-byte"), (b"text", "unreadable"), (encoded("GIF"), "unreadable"), (encoded("PNG")[:60], "unreadable")],
)
def test_what_is_no_image_has_its_kind(data, kind):
    with pytest.raises(BadFileError, match=r"^a\.png ") as refused, open_image_bytes(data, "a.png") as image:
        image.load()
    assert refused.value.kind in {kind, "truncated"}


def test_an_image_over_the_pixel_limit_is_refused_before_it_is_decoded():
    small = open_image_bytes(encoded("PNG"), "a.png", max_pixels=23)
    with pytest.raises(BadFileError, match="6 x 4 pixels; the limit is 23") as refused, small:
        pytest.fail("it was opened")
    assert refused.value.kind == "decompression-bomb"
    with open_image_bytes(encoded("PNG"), "a.png", max_pixels=24) as image:
        assert image.size == (6, 4)


def test_a_name_is_never_opened(tmp_path):
    (tmp_path / "there.png").write_bytes(encoded("PNG"))
    with (
        pytest.raises(BadFileError, match="is not an image"),
        open_image_bytes(b"no image", str(tmp_path / "there.png")),
    ):
        pass
