"""Files of state that must not be lost, with their SHA-256 beside them, so that damage is found when they are read."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, BinaryIO, cast

from mnsa.io import MAX_BYTES, atomic_path, atomic_write_text, read_text, sha256_file


class DamagedFileError(OSError):
    """The content of a file is not what was written: bytes were changed or lost."""


class _HashingWriter:
    """A binary file to write to; it computes the SHA-256 of what it was given.

    error: the first error. A library that writes through native code may raise something else instead of it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self.error: OSError | RuntimeError | None = None

    def write(self, data: bytes) -> int:
        try:
            self._file.write(data)
            self._hash.update(data)
        except (OSError, RuntimeError) as error:  # RuntimeError: torch's, when a loader process died meanwhile
            self.error = self.error or error
            raise
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        """Return the SHA-256 of all data so far, as 64 hexadecimal digits."""
        return self._hash.hexdigest()


def write_checked(path: Path, write: Callable[[IO[bytes]], object], *, previous: Path | None = None) -> str:
    """Replace a file by what `write` writes, and keep its SHA-256 in `NAME.sha256` beside it. Returns: the SHA-256.

    The new file is written beside the old one, flushed, read again and compared, before it replaces the old one.
    previous: keep the old file under this name, if it is whole. At any moment `path` is whole, or absent for the first
    time. Raises: OSError; then both files are as they were.
    """
    with atomic_path(path) as temporary:
        with temporary.open("xb") as file:
            writer = _HashingWriter(file)
            try:
                write(cast("IO[bytes]", writer))
            except RuntimeError as error:  # torch's own, for a write that was refused
                raise writer.error or error from None
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # so that the disk is read, not the memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest = writer.hexdigest()
        if sha256_file(temporary) != digest:
            raise DamagedFileError(errno.EIO, "the disk gives back other bytes than were written", str(path))
        old = _whole_digest(path, path)
        kept = _whole_digest(previous, path) if previous is not None and old is None else old
        _write_digests(path, [digest, kept])
        if previous is not None and old is not None:
            _link_or_copy(path, previous)
    if previous is None and old is not None:
        _write_digests(path, [digest])
    return digest


def require_whole(path: Path, *, digests: Path | None = None) -> None:
    """Compare a file of `write_checked` with its SHA-256. A file without a SHA-256 beside it passes.

    digests: the file that was written, if `path` is its previous content. Raises: DamagedFileError; OSError.
    """
    known = _read_digests(digests or path)
    if known is not None and sha256_file(path) not in known:
        raise DamagedFileError(
            errno.EIO,
            f"its content was changed or damaged: its SHA-256 is not in {digest_file(digests or path).name}",
            str(path),
        )


def digest_file(path: Path) -> Path:
    """Return where the SHA-256 of a file is, and that of the one before it."""
    return path.with_name(f"{path.name}.sha256")


def _read_digests(path: Path) -> list[str] | None:
    """Read the SHA-256 of a file and of the one before it; None if there are none."""
    try:
        text = read_text(digest_file(path), max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return []
    return [line.partition(" ")[0] for line in text.splitlines()]


def _write_digests(path: Path, digests: Iterable[str | None]) -> None:
    """Write SHA-256 sums in the format of `sha256sum`. The first is that of `path`."""
    atomic_write_text(digest_file(path), "".join(f"{digest}  {path.name}\n" for digest in digests if digest))


def _whole_digest(path: Path, written: Path) -> str | None:
    """Return the SHA-256 of a file; None if there is no file, or if it is damaged. written: whose sums are compared."""
    try:
        digest, known = sha256_file(path), _read_digests(written)
    except FileNotFoundError:
        return None
    return digest if known is None or digest in known else None


def _link_or_copy(path: Path, target: Path) -> None:
    """Give the content of a file a second name, which replaces an older file of this name."""
    with atomic_path(target) as temporary:
        try:
            temporary.hardlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)
