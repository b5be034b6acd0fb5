"""The cache returns the pixels that decoding returns, detects damage, and keeps to its size limit."""

import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data import cache as cache_module
from mnsa.data.cache import DecodedCache
from mnsa.data.decode import read_pixels
from mnsa.errors import ConfigError, DataError

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

    monkeypatch.setattr(cache_module, "read_pixels", read)
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
