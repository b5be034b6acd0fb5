"""Zip files for tests: honest ones, and what it takes to make them hostile."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def photo() -> bytes:
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def mask() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def named(*names: str, content: Callable[[], bytes] = photo) -> dict[str, bytes]:
    return {name: content() for name in names}


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def special(name: str, mode: int, content: bytes = b"") -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix
    member.external_attr = mode << 16
    return member


FOUR = named("a/1.png", "a/2.png", "b/3.png", "b/4.png")


def with_header(archive: Path, offset: int, value: int) -> Path:
    """Change a field of the last member in the central directory, 32 bits."""
    content = bytearray(archive.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + offset, value)
    archive.write_bytes(content)
    return archive
