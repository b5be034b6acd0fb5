"""Write files and folders as a whole, lock them, and read untrusted text files with limits.

Write: a reader sees the old content or the new content, never a part of it, also after a crash.
Read: a path may name a pipe or a device that never ends, and a few thousand brackets exhaust the stack of a parser.
So only regular files of limited size are read, and JSON and TOML of limited depth.
"""

import errno
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import stat
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

MAX_BYTES = 1 << 20  # a config has 2,000 bytes, the names of 2,000 classes have 100,000

MAX_DEPTH = 20

_MAX_DOTS = 1000  # per line, outside of quotes: the parser's time grows with the square of the number of key parts

_QUOTED = re.compile(r"""\"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp(\.\w+)?")  # names of `atomic_path`

logger = logging.getLogger(__name__)


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to. It replaces `path` on success and is removed on an error.

    The temporary file is in the folder of `path`, with the same suffix and a name of its own, so several processes may
    write at once: the last one wins. durable: flush file and folder to the disk; False is faster, for files that can be
    made again, and protects against a killed process, but not against a power failure. Raises: OSError.
    """
    temporary = path.with_name(f".{token_hex(8)}.tmp{path.suffix}")
    try:
        yield temporary
        if durable:
            _sync_file(temporary)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of a file in one step. Raises: OSError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Replace the content of a file by UTF-8 text in one step; newlines stay as they are. Raises: OSError."""
    atomic_write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace a file by `value` as indented JSON. Raises: OSError; TypeError when a value has no JSON form."""
    atomic_write_text(path, json.dumps(value, indent=2) + "\n")


def remove_temporaries(folder: Path, *suffixes: str) -> None:
    """Remove what killed writers of `atomic_path` left in a folder.

    suffixes: of the files that no other process writes there now; none: of all. Raises: OSError.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and (not suffixes or path.suffix in suffixes):
                path.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a hidden temporary folder to fill. It becomes `path` on success and is removed on an error.

    Missing parents of `path` are created. Raises: FileExistsError when `path` exists, before or after the folder was
    filled; other OSErrors when it can't be written.
    """
    _require_absent(path)
    temporary = path.with_name(f".{path.name[:40]}.{token_hex(4)}")  # a long name gets no longer
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _require_absent(path)  # POSIX would replace an empty folder
        try:
            temporary.rename(path)
        except OSError:
            _require_absent(path)  # another process was faster
            raise
        try:
            _sync_folder(path.parent)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)  # else it would be in the way of the next try
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def lock(path: Path, *, timeout_s: float | None = None, waiting: str = "", names_owner: bool = False) -> Iterator[None]:
    """Hold the lock file `path`: one process and one thread at a time. The file is created and stays.

    The kernel releases the lock of a process that was killed. timeout_s: seconds to wait, 0: not at all, None: without
    a limit. waiting: this message is logged once if the lock is not free. names_owner: write who holds it, for
    `lock_owner`. Raises: TimeoutError; OSError.
    """
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        if timeout_s == 0:
            raise
        if waiting:
            logger.info(waiting)
        file_lock.acquire(timeout=-1 if timeout_s is None else timeout_s)
    try:
        if names_owner:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            atomic_write_text(_owner_file(path), f"process {os.getpid()} on {platform.node()} since {since}")
        yield
    finally:
        file_lock.release()


def lock_owner(path: Path) -> str:
    """Return who holds a lock that names its owner: process, machine and time."""
    try:
        return read_text(_owner_file(path), max_bytes=MAX_BYTES)
    except (OSError, UnicodeDecodeError):
        return "another process"


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hexadecimal digits; the file is read in blocks. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular_file(path: Path, *, max_bytes: int) -> BinaryIO:
    """Open a regular file to read it. Raises: OSError, also for a pipe, a device, or a larger file."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL in its name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    status = os.fstat(number)  # of the open file, which can't be exchanged any more
    if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes:
        return os.fdopen(number, "rb")
    os.close(number)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, but a folder, a pipe or a device")
    raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes; at most {max_bytes:,} are read")


def read_text(path: Path, *, max_bytes: int) -> str:
    """Read UTF-8 text; line ends become newlines. Raises: OSError, UnicodeDecodeError."""
    with open_regular_file(path, max_bytes=max_bytes) as file:
        text = file.read(max_bytes).decode("utf-8-sig")  # editors of Windows write a byte order mark
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises: OSError, or ValueError with what is wrong in the text."""
    tree: dict[str, Any] = _parse_limited(read_text(path, max_bytes=MAX_BYTES), _parse_toml)
    return tree


def read_json(path: Path, *, max_bytes: int = 16 * MAX_BYTES) -> Any:
    """Read a JSON file. Raises: OSError, or ValueError with what is wrong in the text."""
    return parse_json(read_text(path, max_bytes=max_bytes))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON of limited depth. Raises: ValueError with what is wrong in the text."""
    return _parse_limited(text, json.loads)


def _parse_toml(text: str) -> dict[str, Any]:
    if any(line.count(".") > _MAX_DOTS for line in _QUOTED.sub("", text).split("\n")):
        raise ValueError(f"it has a line with more than {_MAX_DOTS} dots; a key has fewer")
    return tomllib.loads(text)


def _parse_limited(text: str | bytes, parse: Callable[[Any], Any]) -> Any:
    try:
        tree = parse(text)
        too_deep = _is_deeper_than(tree, MAX_DEPTH)
    except RecursionError:
        too_deep = True
    if too_deep:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    return tree


def _is_deeper_than(tree: Any, levels: int) -> bool:
    """Return whether a table or list is below this many levels; without recursion, as the tree may be deep."""
    level = [tree]
    for _ in range(levels):
        level = [child for node in level for child in _children(node)]
    return any(isinstance(node, dict | list) for node in level)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _require_absent(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "it exists already", str(path))


def _owner_file(path: Path) -> Path:
    return path.with_suffix(".owner")


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder. Windows can't open a folder and needs no flush.

    A folder may be for writing only, and some network file systems can't flush one; then the system decides when.
    """
    if os.name == "nt":
        return
    try:
        number = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(number)
