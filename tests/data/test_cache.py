"""The cache returns the pixels that decoding returns, detects damage, and keeps to its size limit."""

import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.data import cache as cache_module
from mnsa.data.cache import DecodedCache
from mnsa.data.decode import read_pixels
from mnsa.errors import ConfigError, DataError

ENTRY_BYTES = 20 + 8 * 10 * 3  # header and pixels


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Five photos of 10 x 8 pixels of noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 10, 3), np.uint8)
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    for path, photo in zip(paths, pixels, strict=True):
        Image.fromarray(photo).save(path)
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path / "cache", 10**6)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that the cache decoded, because it had no entry for them."""
    paths: list[Path] = []

    def read_and_record(path: Path) -> np.ndarray:
        paths.append(path)
        return read_pixels(path)

    monkeypatch.setattr(cache_module, "read_pixels", read_and_record)
    return paths


def entries(cache: DecodedCache) -> list[Path]:
    return sorted(cache.folder.glob("??/*"))


def test_an_image_is_decoded_once(photos: list[Path], cache: DecodedCache, decoded: list[Path]) -> None:
    for _ in range(3):
        for path in photos:
            np.testing.assert_array_equal(cache.read(path), read_pixels(path))
    assert decoded == photos
    assert [entry.stat().st_size for entry in entries(cache)] == [ENTRY_BYTES] * 5


def test_entries_are_found_by_content_and_not_by_name(
    photos: list[Path], cache: DecodedCache, decoded: list[Path], tmp_path: Path
) -> None:
    cache.read(photos[0])
    copy = tmp_path / "copy.png"
    shutil.copy(photos[0], copy)
    np.testing.assert_array_equal(cache.read(copy), read_pixels(photos[0]))
    shutil.copy(photos[1], photos[0])
    np.testing.assert_array_equal(cache.read(photos[0]), read_pixels(photos[1]))
    assert len(decoded) == 2


def test_the_exif_orientation_is_applied_in_entries(cache: DecodedCache, tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (6, 4), "red"), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "rotated.jpg", exif=exif)
    assert [cache.read(tmp_path / "rotated.jpg").shape for _ in range(2)] == [(6, 4, 3)] * 2


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half a header": lambda content: content[:10],
    "cut short": lambda content: content[:-1],
    "too long": lambda content: content + b"0",
    "another magic number": lambda content: b"X" + content[1:],
    "another pixel": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "another size": lambda content: content[:8] + b"\xff" * 8 + content[16:],
    "a pickle": pickle.dumps,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_entry_is_replaced(photos: list[Path], cache: DecodedCache, damage: Callable[[bytes], bytes]) -> None:
    cache.read(photos[0])
    (entry,) = entries(cache)
    content = entry.read_bytes()
    entry.write_bytes(damage(content))
    np.testing.assert_array_equal(cache.read(photos[0]), read_pixels(photos[0]))
    assert entry.read_bytes() == content


def test_entries_in_use_stay_when_the_cache_is_full(photos: list[Path], tmp_path: Path, decoded: list[Path]) -> None:
    cache = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES + 1)
    for path in photos * 2:
        cache.read(path)
    assert len(entries(cache)) == 3
    assert decoded == [*photos, *photos[3:]]


def test_the_least_recently_used_entry_is_removed_first(photos: list[Path], tmp_path: Path) -> None:
    old = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES)
    for age_s, path in zip((300, 100, 200), photos[:3], strict=True):
        before = set(entries(old))
        old.read(path)
        (entry,) = set(entries(old)) - before
        os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - age_s))
    new = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES)
    last_use = {entry.name: entry.stat().st_mtime for entry in entries(new)}
    new.read(photos[3])
    left = {entry.name for entry in entries(new)}
    assert last_use.keys() - left == {min(last_use, key=last_use.__getitem__)}
    assert len(left) == 3


def test_partial_files_of_a_killed_process_are_counted_and_removed_first(photos: list[Path], tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES)
    (cache.folder / "ab").mkdir()
    partial = cache.folder / "ab" / ".0123.tmp.rgb"
    partial.write_bytes(b"0" * 2 * ENTRY_BYTES)
    os.utime(partial, (1, 1))
    for path in photos[:3]:
        cache.read(path)
    assert not partial.exists()
    assert len(entries(cache)) == 3


def test_several_threads_keep_to_the_size_limit(photos: list[Path], tmp_path: Path) -> None:
    caches = [DecodedCache(tmp_path / "cache", 3 * ENTRY_BYTES) for _ in range(4)]
    paths = [path for _ in range(5) for path in photos for _ in caches]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda n: caches[n % 4].read(paths[n]), range(len(paths)))
        for pixels, path in zip(results, paths, strict=True):
            np.testing.assert_array_equal(pixels, read_pixels(path))
    assert len(entries(caches[0])) <= 3


@pytest.mark.parametrize("name", ["gone.png", "empty.png", "."])
def test_a_file_that_is_not_an_image_gives_the_same_error_as_without_a_cache(
    cache: DecodedCache, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError) as without_cache:
        read_pixels(tmp_path / name)
    with pytest.raises(DataError) as with_cache:
        cache.read(tmp_path / name)
    assert str(with_cache.value) == str(without_cache.value)
    assert entries(cache) == []


def test_a_folder_that_can_not_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"train\.cache.*can't be written"):
        DecodedCache(tmp_path / "file" / "cache", 1)
