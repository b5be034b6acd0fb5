"""A cache of decoded images on disk: limited in size, shared by any number of processes.

An entry is found by the SHA-256 of the image file. It holds a header and the pixels, so nothing in it can be executed.
H, W image size in pixels.
"""

import os
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from mnsa.data.decode import MAX_PIXELS, read_pixels
from mnsa.errors import ConfigError
from mnsa.io import atomic_path, lock, sha256_file

CACHE_VERSION = 1  # raise it when `decode.read_pixels` returns different pixels for the same file

_MAGIC = b"mnsaRGB1"

_HEADER = struct.Struct("<8sIII")  # magic, H, W, CRC-32 of the pixels

_ENTRY_SUFFIX = ".rgb"


class DecodedCache:
    """Reads images like `read_pixels`, from the cache if possible.

    max_bytes: limit for all entries together. When the cache is full, entries are removed that were not read since
    this object was created, the least recently used first. Entries in use stay: an epoch over more images than fit
    then still reads as many as fit from the cache; LRU alone would remove each entry just before its next use.
    Raises: ConfigError when the folder can't be created.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._created_at = time.time()
        self._lock_file = folder / "lock"
        self._total_file = folder / "bytes"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file.touch()
        except OSError as error:
            raise ConfigError(f"train.cache: {folder} can't be written: {error.strerror}. Choose another.") from None

    def read(self, path: Path) -> np.ndarray:
        """Read an image: uint8 (H, W, 3). Raises: BadFileError."""
        try:
            before = path.stat()
            entry = self._entry_path(path) if path.is_file() else None
        except OSError:
            entry = None
        if entry is None:
            return read_pixels(path)  # raises the error
        pixels = _read_entry(entry)
        if pixels is None:
            pixels = read_pixels(path)
            after = path.stat()
            if (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size):
                with suppress(OSError):  # a full disk makes training slower, but does not stop it
                    self._add(entry, pixels)
        return pixels

    def _entry_path(self, path: Path) -> Path:
        digest = sha256_file(path)
        return self.folder / digest[:2] / f"{digest}-{CACHE_VERSION}{_ENTRY_SUFFIX}"

    def _add(self, entry: Path, pixels: np.ndarray) -> None:
        size = _HEADER.size + pixels.nbytes
        with lock(self._lock_file):
            total = self._total_bytes()
            if total + size > self.max_bytes:
                total = self._remove_unused(size)
            if total + size > self.max_bytes:
                return
            entry.parent.mkdir(exist_ok=True)
            old_size = entry.stat().st_size if entry.exists() else 0  # a damaged entry is replaced
            _write_entry(entry, pixels)
            self._save_total(total + size - old_size)

    def _remove_unused(self, size: int) -> int:
        """Remove unused entries until `size` bytes fit or none is left. Returns: bytes in use, counted again."""
        entries = [(file, file.stat()) for file in self.folder.glob("??/*")]  # also partial files of killed processes
        total = sum(status.st_size for _, status in entries)
        for file, status in sorted(entries, key=lambda entry: entry[1].st_mtime):
            if total + size <= self.max_bytes or status.st_mtime >= self._created_at:
                break
            file.unlink(missing_ok=True)
            total -= status.st_size
        self._save_total(total)
        return total

    def _total_bytes(self) -> int:
        try:
            return int(self._total_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return sum(file.stat().st_size for file in self.folder.glob("??/*"))

    def _save_total(self, total: int) -> None:
        with atomic_path(self._total_file, durable=False) as temporary:
            temporary.write_text(str(total), encoding="ascii")


def _write_entry(entry: Path, pixels: np.ndarray) -> None:
    data = np.ascontiguousarray(pixels).data
    with atomic_path(entry, durable=False) as temporary, temporary.open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, *pixels.shape[:2], zlib.crc32(data)))
        file.write(data)


def _read_entry(entry: Path) -> np.ndarray | None:
    """Read the pixels of an entry and mark it as used; None when it is missing or damaged."""
    try:
        with entry.open("rb") as file:
            magic, height, width, crc = _HEADER.unpack(file.read(_HEADER.size))
            size = os.fstat(file.fileno()).st_size - _HEADER.size
            if magic != _MAGIC or height * width > MAX_PIXELS or size != height * width * 3:
                return None
            pixels = np.fromfile(file, np.uint8, size)
        os.utime(entry)
    except (OSError, struct.error):
        return None
    return pixels.reshape(height, width, 3) if zlib.crc32(pixels.data) == crc else None
