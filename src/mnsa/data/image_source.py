"""What may stand for an image: the path of a file, an address, or pixels in memory.

Addresses are read: http and https by Python's own client, others such as s3:// by fsspec, if it is installed.

An answer that may be right at another time (429, 5xx, a timeout, a broken connection, a part of a file) is asked for
again. Only addresses that the user gives are opened: no table, manifest or request does that.
"""

import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

from PIL import Image

from mnsa.errors import DataError, install_command

TIMEOUT_S = 20.0  # without a byte

LIMIT_S = 300.0  # for a whole file

MAX_BYTES = 2**30

WAITS_S = (0.5, 2.0)  # before the second and the third attempt

_CHUNK_BYTES = 2**18

_TOO_MANY, _SERVER_ERROR = 429, 500  # HTTP status

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]")  # `C:/` is a drive


class Url(str):
    """The address of an image. It stands where the path of a file may stand."""

    __slots__ = ()

    @property
    def stem(self) -> str:
        """The file name of the address without its suffix, or else its host."""
        return self._path.stem or urlsplit(self).netloc.replace(":", "_")

    @property
    def folder(self) -> Path:
        """A folder that two addresses share if they have the same host and folder; it exists nowhere."""
        return Path("/", urlsplit(self).netloc or "host", *self._path.parts[1:-1])

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(unquote(urlsplit(self).path) or "/")


@dataclass(frozen=True, slots=True, eq=False)  # by identity: an image has no hash
class PixelImage:
    """An image in memory, which stands where the path of a file may stand. name: in tables and of its output files."""

    name: str
    image: Image.Image

    def __str__(self) -> str:
        return self.name

    @property
    def stem(self) -> str:
        """The name: it has no suffix."""
        return self.name


ImageSource: TypeAlias = Path | Url | PixelImage


def to_source(text: str) -> Path | Url:
    """Return the address or the path that a text is."""
    return Url(text) if is_url(text) else Path(text)


def is_url(text: str) -> bool:
    """Whether a text begins as an address does, such as `https://host` or `s3://bucket`."""
    return _ADDRESS.match(text) is not None


def expand_url(pattern: str, suffixes: frozenset[str]) -> Iterator[Url]:
    """Yield the addresses that an address means: itself; the images of a folder or a glob where fsspec can list them.

    Raises: DataError when fsspec or its part for this kind of address is missing, or the place can't be listed.
    """
    if _is_http(pattern):
        yield Url(pattern)
        return
    with _fsspec(pattern) as fsspec:
        system, path = fsspec.core.url_to_fs(pattern)
        if any(mark in pattern for mark in "*?["):
            found = sorted(system.glob(path))
        else:
            found = sorted(system.find(path)) if system.isdir(path) else []
        names = [system.unstrip_protocol(name) for name in found]
    yield from (Url(name) for name in names if PurePosixPath(name).suffix.lower() in suffixes)
    if not found:
        yield Url(pattern)


def fetch(url: Url) -> bytes:
    """Read a file at an address, with attempts and limits as the constants say. Raises: DataError that names it."""
    for wait_s in (*WAITS_S, None):
        try:
            return _fetch_once(url)
        except _PassingError as error:
            if wait_s is None:
                raise DataError(f"{url} {error}, {len(WAITS_S) + 1} times. Try again later.") from None
        time.sleep(wait_s)
    raise AssertionError


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _PassingError(Exception):
    """An error that may be gone at the next attempt."""


def _fetch_once(url: Url) -> bytes:
    if not _is_http(url):
        with _fsspec(url) as fsspec, fsspec.open(url, "rb") as file:
            return _read(url, file, None)
    try:
        with _opener().open(url, timeout=TIMEOUT_S) as response:
            length = response.headers.get("Content-Length")
            return _read(url, response, int(length) if length and length.isdecimal() else None)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (_TOO_MANY, 408) or error.code >= _SERVER_ERROR:
                raise _PassingError(f"was answered with {error.code} ({error.reason})") from None
            raise DataError(f"{url} was answered with {error.code} ({error.reason}). Correct the address.") from None
    except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
        raise _PassingError(f"can't be read: {error or type(error).__name__}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            raise DataError(f"{url} can't be read: no host of that name is known. Correct the address.") from None
        raise _PassingError(f"can't be read: {error.reason}") from None
    except ValueError as error:
        raise DataError(f"{url} is no valid address: {error}.") from None


def _read(url: Url, file: _Readable, length: int | None) -> bytes:
    """Read a file until its end, with limits of bytes and time. Raises: DataError, _PassingError."""
    data, end = bytearray(), time.monotonic() + LIMIT_S
    while chunk := file.read(_CHUNK_BYTES):
        data += chunk
        if len(data) > MAX_BYTES:
            raise DataError(f"{url} has more than {MAX_BYTES:,} bytes. Download it, and give the file.")
        if time.monotonic() > end:
            raise DataError(f"{url} takes longer than {LIMIT_S:.0f} seconds. Download it, and give the file.")
    if length is not None and len(data) < length:
        raise _PassingError(f"ended after {len(data):,} of {length:,} bytes")
    return bytes(data)


@contextmanager
def _fsspec(url: str) -> Iterator[Any]:
    """Import fsspec, and convert its errors, which are of many kinds, into a DataError that names the address."""
    try:
        import fsspec  # noqa: PLC0415 - an extra

        yield fsspec
    except DataError:
        raise
    except ImportError as error:  # of fsspec itself, or of its part for this kind of address
        raise DataError(f"{url} needs a package that is missing ({error}): {install_command('cloud')}.") from None
    except FileNotFoundError:
        raise DataError(f"{url} does not exist. Correct the address.") from None
    except Exception as error:  # of the client of any store
        reason = str(error) or type(error).__name__
        raise DataError(f"{url} can't be read: {reason}. Expected https://, http:// or s3://.") from None


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme.lower() in ("http", "https")


@cache
def _opener() -> urllib.request.OpenerDirector:
    """An opener of http and https alone: a redirection can't lead to a local file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "mnsa")]
    return opener
