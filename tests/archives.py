"""Zip files for tests: valid ones, and functions that make them invalid."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def encode_photo() -> bytes:
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def encode_mask() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def make_members(*names: str, content: Callable[[], bytes] = encode_photo) -> dict[str, bytes]:
    return {name: content() for name in names}


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def special_member(name: str, mode: int, content: bytes = b"") -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix
    member.external_attr = mode << 16
    return member


FOUR_IMAGES = make_members("a/1.png", "a/2.png", "b/3.png", "b/4.png")


def patch_directory(archive: Path, offset: int, value: int) -> Path:
    """Change a 32-bit field of the last member in the central directory. offset: of the field in the entry."""
    content = bytearray(archive.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + offset, value)
    archive.write_bytes(content)
    return archive
