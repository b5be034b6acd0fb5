"""Image files on their way from one layout to another: found safely, measured, copied.

H, W image size in pixels.
"""

import posixpath
import shutil
from pathlib import Path

from PIL import Image

from mnsa.data.decoding import SUFFIXES, opened, read_pixels
from mnsa.data.rows import checked_path
from mnsa.errors import DataError

_ORIENTATION = 0x0112  # EXIF: 1 upright, 5 to 8 swap width and height


def checked_name(text: object, where: str) -> str:
    """Pass on an image's path, in its plainest spelling. Raises: DataError beginning with `where`."""
    if not isinstance(text, str) or any(ord(char) < 32 for char in text):
        raise DataError(f"{where}: the image's name must be text on one line, got {ascii(text)[:80]}.")
    path = posixpath.normpath(checked_path(text, where, "image"))
    if posixpath.splitext(path)[1].lower() not in SUFFIXES:
        raise DataError(f"{where}: {path!r} is no image that can be read; expected {', '.join(sorted(SUFFIXES))}.")
    return path


def upright_size(path: Path) -> tuple[int, int]:
    """Read an image's (H, W), turned as its EXIF data say; no pixels are decoded. Raises: BadFileError."""
    with opened(path) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


def copy_upright(source: Path, folder: Path, stem: str) -> str:
    """Copy an image under a new stem and return its file name; one that EXIF turns is written upright, as PNG.

    Other tools don't turn images, or turn them without their masks.
    """
    with opened(source) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
    if not upright:
        return write_png(source, folder, stem)
    name = stem + source.suffix.lower()
    shutil.copyfile(source, folder / name)
    return name


def write_png(source: Path, folder: Path, stem: str) -> str:
    """Write an image's pixels, as mnsa reads them, as PNG; return its file name."""
    Image.fromarray(read_pixels(source)).save(folder / f"{stem}.png")
    return f"{stem}.png"
