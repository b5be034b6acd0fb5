"""Decode image and mask files safely: a few formats, a limit of pixels, and errors that name the file.

H, W image size in pixels. This module imports no torch: a process that only reads files starts quickly and stays small.
"""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnsa.errors import DataError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")

MAX_PIXELS = 20_000 * 20_000  # what a flatbed scanner yields at most; beyond it a small file could fill the memory

DEFAULT_FIX = "Restore the file, or drop its row"


# Of each 16-bit gray its 8-bit one, rounded.
_UINT8_OF_UINT16 = ((np.arange(65_536, dtype=np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)


Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit is smaller and would refuse honest scans


class BadFileError(DataError):
    """A file that can't be used. kind: of `SEVERITY_BY_KIND`. reason, fix: what to say of it without its path."""

    def __init__(self, message: str, *, kind: str = "unreadable", reason: str = "", fix: str = DEFAULT_FIX) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason or message
        self.fix = fix


def bad_file_error(path: Path, kind: str, reason: str, fix: str = DEFAULT_FIX) -> BadFileError:
    """Say of `path` what is wrong with it (`reason`: "is empty") and what to do."""
    return BadFileError(f"{path} {reason}. {fix}.", kind=kind, reason=reason, fix=fix)


def resolve_inside(root: Path, relative: str) -> Path:
    """Follow a path below the root to its file. Raises: BadFileError when a link leads out of the root, or nowhere."""
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError):  # links that lead to each other
        raise bad_file_error(root / relative, "missing", "is a link that leads nowhere") from None
    if not path.is_relative_to(root):
        reason, fix = f"leads to {path}, outside the data set's root {root}", "Copy the file into the root"
        raise BadFileError(f"{relative} {reason}. {fix}.", kind="outside-root", reason=reason, fix=fix)
    return path


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image; its pixels are decoded when first used. Raises: BadFileError, also for errors inside `with`."""
    with _convert_errors(path):
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
            raise bad_file_error(path, "unreadable", "is not an image, but a folder or a device")
        if about.st_size == 0:
            raise bad_file_error(path, "zero-byte", "is empty (0 bytes)")
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image, path, MAX_PIXELS)
            yield image


@contextmanager
def open_image_bytes(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image that came as bytes, by the rules of `opened`; `name` is what errors call it, and is never opened.

    Raises: BadFileError, also for errors inside `with`.
    """
    path = Path(name)
    with _convert_errors(path):
        if not data:
            raise bad_file_error(path, "zero-byte", "is empty (0 bytes)")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, path, max_pixels)
            yield image


@contextmanager
def _convert_errors(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with an image into a BadFileError."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise bad_file_error(path, "missing", "does not exist") from None
    except UnidentifiedImageError:
        reason = f"is not an image that can be read; expected {', '.join(FORMATS)}"
        raise bad_file_error(path, "unreadable", reason) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow may be first to notice
        raise _too_large(path, f"has too many pixels: {error}") from None
    except Exception as error:  # a decoder meets hostile bytes: what it raises is not bounded by any list
        kind = "truncated" if "truncated" in str(error) else "unreadable"
        raise bad_file_error(path, kind, f"is broken: {error}") from error


def read_pixels(path: Path) -> np.ndarray:
    """Read an image, upright, as `upright_rgb` has it: uint8 (H, W, 3). Raises: BadFileError."""
    with open_image(path) as image:
        return _to_array(upright_rgb(image, path))


def upright_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Turn an image as its EXIF data say, into RGB; 16-bit gray is scaled to 8, alpha dropped. Raises: BadFileError."""
    image = _apply_exif_orientation(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray(_to_uint8(np.asarray(image))).convert("RGB")
    if image.mode in ("I", "F"):
        reason = "has 32-bit pixels; expected 8 or 16 bits per channel"
        raise bad_file_error(path, "pixel-type", reason, "Save it with 8 bits per channel")
    if "transparency" in image.info:  # Pillow can't drop a palette's transparency in one step
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def raw_mask_values(image: Image.Image, path: Path) -> np.ndarray:
    """Take a mask's pixel values before any meaning is given to them: whole numbers (H, W). Raises: BadFileError."""
    image = _apply_exif_orientation(image)  # an editor that keeps the photo's orientation gives it to the mask as well
    raw = np.array(image)  # palette images give their indices, 1-bit images booleans
    if raw.ndim == 3:
        raw = raw[..., : len(image.getbands()) - ("A" in image.getbands())]
        if not (raw == raw[..., :1]).all():
            reason = "is colored; expected class indices: an indexed or a gray PNG"
            raise bad_file_error(path, "mask-format", reason, "Save the index of each pixel's class")
        raw = raw[..., 0]
    if raw.dtype == np.bool_:
        return raw.astype(np.uint8)
    if raw.dtype.kind not in "ui":
        reason = f"holds {raw.dtype} pixels; expected whole numbers: an indexed or a gray PNG"
        raise bad_file_error(path, "mask-format", reason, "Save the index of each pixel's class")
    return raw


def class_indices(raw: np.ndarray, mask_classes: int, path: Path) -> np.ndarray:
    """Give a mask's values (H, W) their meaning: class indices, uint8 (H, W).

    mask_classes: 1 reads 0 as background and 1 or 255 as the class; M >= 2 reads 0..M-1.
    Raises: BadFileError naming every value that stands for no class.
    """
    mask = np.where(raw == 255, 1, raw) if mask_classes == 1 else raw
    declared = max(mask_classes, 2)
    if mask.max() >= declared or mask.min() < 0:
        unknown = [str(value) for value in np.unique(mask) if not 0 <= value < declared]
        expected = "0 and 1 (or 255)" if mask_classes == 1 else f"0 to {mask_classes - 1}"
        values = ", ".join(unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        reason = f"has pixel values {values}; expected {expected}"
        fix = "Name every value in dataset.toml's mask_classes, 0 (background) first; save masks as PNG, not as JPEG"
        raise bad_file_error(path, "mask-values", reason, fix)
    return mask.astype(np.uint8)


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Decode a picture and turn it, in place: a copy of the largest one would take 1.2 GB more."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_array(image: Image.Image) -> np.ndarray:
    """The pixels of an RGB image, uint8 (H, W, 3); band by band, as numpy would take one more copy of the whole."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, 1024):
        bottom = min(top + 1024, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _to_uint8(wide: np.ndarray) -> np.ndarray:
    """16-bit grays (H, W) -> uint8 (H, W); by a few rows at a time, as the largest picture has no room for copies."""
    narrow = np.empty(wide.shape, np.uint8)
    for top in range(0, len(wide), 64):
        narrow[top : top + 64] = _UINT8_OF_UINT16[wide[top : top + 64]]
    return narrow


def _check_size(image: Image.Image, path: Path, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise _too_large(path, f"has {image.width} x {image.height} pixels; at most {max_pixels:,} are read")


def _too_large(path: Path, reason: str) -> BadFileError:
    return bad_file_error(path, "decompression-bomb", reason, "Shrink or cut the picture, or drop its row")
