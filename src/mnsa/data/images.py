"""Images and masks as tensors: read, with or without a cache of decoded images on disk, and masks written.

The cache is bounded, and finds an image by the content of its file. An entry is a header and the pixels, nothing that
could be executed. Any number of processes share a cache.
H, W image size in pixels.
"""

import fcntl
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from zlib import Z_RLE

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnsa.data.decode import MAX_PIXELS, class_indices, open_image, raw_mask_values, read_pixels
from mnsa.errors import ConfigError
from mnsa.visualize.palette import mask_palette

CACHE_VERSION = 1  # of the decoding: raise it when `decoding.read_pixels` gives other pixels for the same file

_MAGIC = b"mnsaRGB1"

_HEADER = struct.Struct("<8sIII")  # magic, H, W, CRC-32 of the pixels

_ENTRY_SUFFIX = ".rgb"


class DecodedCache:
    """Reads images as `read_pixels` does, from the cache where they are in it.

    limit_bytes: what all entries may take. When it is full, entries make room that nobody has used since this one was
    made, the longest unused first; what is in use stays. For epochs over more images than fit, that keeps as many as
    fit, while dropping the least recently used would drop each just before its turn.
    Raises: ConfigError when the folder can't be made.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes, self.began = folder, limit_bytes, time.time()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "lock").touch()
        except OSError as error:
            raise ConfigError(f"train.cache: {folder} can't be written: {error.strerror}. Choose another.") from None

    def read(self, path: Path) -> np.ndarray:
        """Read an image: uint8 (H, W, 3). Raises: BadFileError."""
        try:
            before = path.stat()
            entry = self._entry(path) if path.is_file() else None
        except OSError:
            entry = None
        if entry is None:
            return read_pixels(path)  # which says what is wrong
        pixels = _read_entry(entry)
        if pixels is None:
            pixels = read_pixels(path)
            after = path.stat()
            if (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size):
                with suppress(OSError):  # a full disk costs time, not the training
                    self._keep(entry, pixels)
        return pixels

    def _entry(self, path: Path) -> Path:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return self.folder / digest[:2] / f"{digest}-{CACHE_VERSION}{_ENTRY_SUFFIX}"

    def _keep(self, entry: Path, pixels: np.ndarray) -> None:
        size = _HEADER.size + pixels.nbytes
        with self._locked():
            total = self._total()
            if total + size > self.limit_bytes:
                total = self._make_room(size)
            if total + size > self.limit_bytes:
                return
            entry.parent.mkdir(exist_ok=True)
            replaced = entry.stat().st_size if entry.exists() else 0  # a damaged one
            _write_entry(entry, pixels)
            self._note(total + size - replaced)

    def _make_room(self, size: int) -> int:
        """Drop what nobody has used lately. Returns: the bytes that are left, counted anew."""
        entries = [(file, file.stat()) for file in self.folder.glob("??/*")]  # unfinished ones of killed processes, too
        total = sum(about.st_size for _, about in entries)
        for file, about in sorted(entries, key=lambda entry: entry[1].st_mtime):
            if total + size <= self.limit_bytes or about.st_mtime >= self.began:
                break
            file.unlink(missing_ok=True)
            total -= about.st_size
        self._note(total)
        return total

    def _total(self) -> int:
        try:
            return int((self.folder / "bytes").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return sum(file.stat().st_size for file in self.folder.glob("??/*"))

    def _note(self, total: int) -> None:
        (self.folder / "bytes").write_text(str(total), encoding="ascii")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _write_entry(entry: Path, pixels: np.ndarray) -> None:
    pending = entry.with_name(f"{token_hex(8)}.part")
    body = np.ascontiguousarray(pixels).data
    with pending.open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, *pixels.shape[:2], zlib.crc32(body)))
        file.write(body)
    pending.replace(entry)


def _read_entry(entry: Path) -> np.ndarray | None:
    """The pixels of an entry, marked as used; None when there is none, or a damaged one."""
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


def read_image(path: Path, cache: DecodedCache | None = None) -> Tensor:
    """Read an image, upright as its EXIF data say: uint8 (3, H, W), RGB; 16-bit gray is scaled to 8, alpha dropped.

    cache: where decoded images are found or kept; the pixels are the same.
    Raises: DataError naming the file and what is wrong with it.
    """
    pixels = read_pixels(path) if cache is None else cache.read(path)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(path: Path, mask_classes: int) -> Tensor:
    """Read a mask as class indices, upright as its own EXIF data say: uint8 (H, W).

    mask_classes: 1 reads 0 as background and 1 or 255 as the class; M >= 2 reads 0..M-1.
    Raises: DataError naming the file and every value that stands for no class.
    """
    with open_image(path) as image:
        raw = raw_mask_values(image, path)
    return torch.from_numpy(class_indices(raw, mask_classes, path))


def unique_mask_values(path: Path) -> frozenset[int]:
    """Collect the pixel values that occur in a mask file, before any meaning is given to them."""
    with open_image(path) as image:
        return frozenset(int(value) for value in np.unique(raw_mask_values(image, path)))


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write class indices, uint8 (H, W), as an indexed PNG that `read_mask` gives back and a viewer shows in color."""
    image = Image.fromarray(mask)
    image.putpalette(mask_palette())
    # Run lengths take a third of the time of Pillow's usual search for repeats, and less room.
    image.save(path, format="PNG", compress_level=1, compress_type=Z_RLE)
