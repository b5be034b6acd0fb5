"""Formats of image files by their first bytes, whatever the name: HEIF, and files that are named as what they are.

Of a file with several images, the first is read: the first page of a TIFF, the first frame of an animation. That is
said, except for the previews in photos of cameras (MPO).
"""

import logging

import numpy as np
from PIL import Image

from mnsa.errors import install_command

logger = logging.getLogger(__name__)

HEAD_BYTES = 24  # the start of a file, which tells its format

_BIG_ENDIAN_BIGTIFF = b"MM\0\x2b"  # Pillow misreads its tags

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0")

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})

_GIT_LFS_HEAD = b"version https://git-lfs"


class UnsupportedFormatError(Exception):
    """A file of a known format that is not read. reason: continues the name of the file. fix: what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def find_formats(head: bytes, formats: tuple[str, ...]) -> tuple[str, ...]:
    """The formats (Pillow's names) that a file may have: `formats`, and HEIF (HEIC photos of phones) where it is one.

    head: its first HEAD_BYTES bytes. Raises: UnsupportedFormatError, also where the package that reads HEIF is missing.
    """
    if head.startswith(_GIT_LFS_HEAD):
        raise UnsupportedFormatError("is a pointer of Git LFS, not the file itself", "Fetch it: git lfs pull")
    if head.startswith(_BIG_ENDIAN_BIGTIFF):
        reason = "is a BigTIFF of big-endian byte order, which is not read"
        raise UnsupportedFormatError(reason, "Save it as a TIFF of little-endian byte order, or as PNG")
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return formats
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415 - an extra
    except ImportError:
        reason = "is a HEIC photo, and the package that reads them is missing"
        raise UnsupportedFormatError(reason, f"{install_command('heif')}, or save it as JPEG or PNG") from None
    register_heif_opener()
    return (*formats, "HEIF")


def is_tiff(head: bytes) -> bool:
    """Whether a file is a TIFF, by its first bytes."""
    return head.startswith(_TIFF_HEADS)


def has_white_first(image: Image.Image) -> bool:
    """Whether an indexed image is drawn in black and white, and index 0 is white."""
    if image.mode != "P":
        return False
    used = [index for index, count in enumerate(image.histogram()) if count]
    colors = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    return used[0] == 0 and len(used) == 2 and used[1] < len(colors) and (colors[used] == [[255] * 3, [0] * 3]).all()


def has_further_pages(image: Image.Image) -> bool:
    """Whether an open file has pages or frames besides the first."""
    return image.format != "MPO" and getattr(image, "is_animated", False)


def log_further_pages(image: Image.Image, name: object) -> None:
    """Log that the pages or frames of an open file after the first are not read."""
    if has_further_pages(image):
        logger.warning("%s has several pages or frames; only the first is read", name, extra={"said_once": str(name)})
