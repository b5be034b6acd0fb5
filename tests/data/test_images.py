"""The cache gives the pixels that decoding gives, notices damage, and stays within its bound."""

import os
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data import decode, images
from mnsa.data.decode import read_pixels
from mnsa.data.images import DecodedCache, read_image, read_mask, unique_mask_values, write_mask
from mnsa.errors import ConfigError, DataError
from mnsa.visualize.palette import class_color

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


def test_a_written_mask_is_read_back(tmp_path: Path) -> None:
    truth = RNG.integers(0, 4, (5, 7), np.uint8)
    write_mask(truth, tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", 4).numpy(), truth)
    assert unique_mask_values(tmp_path / "m.png") == set(truth.ravel().tolist())


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
    with pytest.raises(DataError, match=r"m\.png is colored"):
        read_mask(saved(Image.fromarray(RGB), tmp_path / "m.png"), 3)


def test_a_mask_of_fractions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.tif holds float32 pixels"):
        read_mask(saved(Image.fromarray(np.full((2, 2), 0.5, np.float32)), tmp_path / "m.tif"), 1)


def broken_files(folder: Path) -> dict[Path, str]:
    whole = saved(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), folder / "whole.jpg").read_bytes()
    content = {
        "empty.jpg": (b"", r"empty \(0 bytes\)"),
        "truncated.jpg": (whole[: len(whole) // 2], "is broken"),
        "text.png": (b"not an image", "is not an image"),
        "header.png": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "is (broken|not an image)"),
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


def test_a_written_mask_keeps_every_value_and_has_the_palettes_colors(tmp_path: Path) -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(mask, tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as written:
        assert np.array_equal(np.array(written), mask)
        colors = np.array(written.convert("RGB")).reshape(256, 3)
    assert [tuple(color) for color in colors] == [class_color(index) for index in range(256)]


ENTRY_BYTES = 20 + 8 * 10 * 3


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Five photos of 10 x 8 pixels, noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 10, 3), np.uint8)
    for n, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{n}.png")
    return [tmp_path / f"{n}.png" for n in range(5)]


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path / "cache", 10**6)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was decoded, and not found in the cache."""
    seen: list[Path] = []

    def read(path: Path) -> np.ndarray:
        seen.append(path)
        return read_pixels(path)

    monkeypatch.setattr(images, "read_pixels", read)
    return seen


def entries(cache: DecodedCache) -> list[Path]:
    return sorted(cache.folder.glob("??/*"))


def test_an_image_is_decoded_once_and_then_found(photos, cache, decoded):
    for _ in range(3):
        for path in photos:
            np.testing.assert_array_equal(cache.read(path), read_pixels(path))
    assert decoded == photos
    assert [entry.stat().st_size for entry in entries(cache)] == [ENTRY_BYTES] * 5


def test_it_is_the_content_that_counts_and_not_the_name(photos, cache, decoded, tmp_path):
    cache.read(photos[0])
    np.testing.assert_array_equal(cache.read(shutil.copy(photos[0], tmp_path / "copy.png")), read_pixels(photos[0]))
    shutil.copy(photos[1], photos[0])
    np.testing.assert_array_equal(cache.read(photos[0]), read_pixels(photos[1]))
    assert len(decoded) == 2


def test_an_image_turned_by_exif_is_kept_upright(cache, tmp_path):
    image, exif = Image.new("RGB", (6, 4), "red"), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert [cache.read(tmp_path / "turned.jpg").shape for _ in range(2)] == [(6, 4, 3)] * 2


DAMAGE = {
    "empty": lambda whole: b"",
    "half a header": lambda whole: whole[:10],
    "cut short": lambda whole: whole[:-1],
    "too long": lambda whole: whole + b"0",
    "another format": lambda whole: b"X" + whole[1:],
    "another pixel": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "another size": lambda whole: whole[:8] + b"\xff" * 8 + whole[16:],
    "a pickle": pickle.dumps,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_noticed_and_made_anew(photos, cache, damage):
    cache.read(photos[0])
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    np.testing.assert_array_equal(cache.read(photos[0]), read_pixels(photos[0]))
    assert entry.read_bytes() == whole


def test_what_is_in_use_stays_within_the_bound(photos, tmp_path, decoded):
    cache = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES + 1)
    for path in photos * 2:
        cache.read(path)
    assert len(entries(cache)) == 3
    assert decoded == [*photos, *photos[3:]]


def test_what_nobody_uses_any_more_makes_room_the_longest_unused_first(photos, tmp_path):
    old = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES)
    for age, path in zip((300, 100, 200), photos[:3], strict=True):
        before = set(entries(old))
        old.read(path)
        (entry,) = set(entries(old)) - before
        os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - age))
    new = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES)
    held = {entry.name: entry.stat().st_mtime for entry in entries(new)}
    new.read(photos[3])
    left = {entry.name for entry in entries(new)}
    assert held.keys() - left == {min(held, key=held.__getitem__)}
    assert len(left) == 3


def test_what_a_killed_process_left_half_done_is_counted_and_goes_first(photos, tmp_path):
    cache = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES)
    (cache.folder / "ab").mkdir()
    half = cache.folder / "ab" / "0123.part"
    half.write_bytes(b"0" * 2 * ENTRY_BYTES)
    os.utime(half, (1, 1))
    for path in photos[:3]:
        cache.read(path)
    assert not half.exists()
    assert len(entries(cache)) == 3


def test_many_at_once_stay_within_the_bound(photos, tmp_path):
    caches = [DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(cache.read, path) for _ in range(5) for path in photos for cache in caches]
        for job, path in zip(jobs, [path for _ in range(5) for path in photos for _ in caches], strict=True):
            np.testing.assert_array_equal(job.result(), read_pixels(path))
    assert len(entries(caches[0])) <= 3


@pytest.mark.parametrize("name", ["gone.png", "empty.png", "."])
def test_a_file_that_is_no_image_is_told_as_without_a_cache(cache, tmp_path, name):
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError) as plain:
        read_pixels(tmp_path / name)
    with pytest.raises(DataError) as cached:
        cache.read(tmp_path / name)
    assert str(cached.value) == str(plain.value)
    assert entries(cache) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"train\.cache.*can't be written"):
        DecodedCache(tmp_path / "file" / "cache", 1)
