"""Decode image and mask files of unknown origin: a few formats, a limit of pixels, errors that name the file.

Only `read_image` and `read_mask` import torch, so a process that just reads files starts fast and uses little memory.
H, W image size in pixels.
"""

from __future__ import annotations

import errno
import io
import logging
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnsa.data.image_formats import (
    HEAD_BYTES,
    UnsupportedFormatError,
    find_formats,
    has_white_first,
    is_tiff,
    log_further_pages,
)
from mnsa.data.image_source import ImageSource, PixelImage, Url, fetch
from mnsa.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")

MASK_FORMATS = (*FORMATS, "GIF")  # public data sets have masks of 0 and 255 as GIF
MAX_PIXELS = 20_000 * 20_000  # the largest scan of a flatbed scanner; without a limit a small file can fill the memory

DEFAULT_FIX = "Restore the file, or remove its row"
MIN_SIDE_PX = 16  # a smaller image shows nothing

_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of TIFF; 0: the lowest value is white; 2: signed integers
_MIN_WHITE = 128  # a mask of 0 and this or more has no class indices
_COMMON_HEADS = (b"\xff\xd8\xff", b"\x89PNG")  # of JPEG and PNG
_MAX_12_BITS = 4096

_PILLOW = "PIL|pillow_heif"
_QUIET = ("ignore", None, Warning, re.compile(_PILLOW), 0)  # a filter of `warnings`

_BAND_ROWS = 1024  # large images are copied in bands, because a second copy of a whole scan takes 1.2 GB

# Maps each 16-bit gray value to its 8-bit value, rounded.
_UINT8_OF_UINT16 = ((np.arange(65_536, dtype=np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit is smaller and refuses large scans
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its messages appear raw on a terminal


class BadFileError(DataError):
    """A file that can't be used.

    kind: a key of `SEVERITY_BY_KIND`. reason: what is wrong, without the path ("is empty"). fix: what to do.
    """

    def __init__(self, message: str, *, kind: str = "unreadable", reason: str = "", fix: str = DEFAULT_FIX) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason or message
        self.fix = fix


def bad_file_error(path: ImageSource | str, kind: str, reason: str, fix: str = DEFAULT_FIX) -> BadFileError:
    """Create the error for a file. reason: what is wrong ("is empty"). fix: what to do ("Restore the file")."""
    return BadFileError(f"{path} {reason}. {fix}.", kind=kind, reason=reason, fix=fix)


@contextmanager
def open_image(path: ImageSource, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open an image file; its pixels are decoded on first use. It may be at an address, or in memory already.

    formats: MASK_FORMATS for a mask. Raises: BadFileError, also for errors of Pillow inside the `with` block; DataError
    for an address that can't be read.
    """
    if isinstance(path, PixelImage):
        yield path.image.copy()
        return
    if isinstance(path, Url):
        with open_image_bytes(fetch(path), path) as image:
            yield image
        return
    with _bad_file_errors(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
            raise bad_file_error(path, "unreadable", "is not an image, but a folder or a device")
        if status.st_size == 0:
            raise bad_file_error(path, "zero-byte", "is empty (0 bytes)")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        with _open(path, head, formats, path) as image:
            _require_size(image, path, MAX_PIXELS)
            yield image


@contextmanager
def open_image_bytes(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an encoded image in memory, by the rules of `open_image`. name: for error messages; it is never opened.

    Raises: BadFileError, also for errors of Pillow inside the `with` block.
    """
    with _bad_file_errors(name):
        if not data:
            raise bad_file_error(name, "zero-byte", "is empty (0 bytes)")
        with _open(io.BytesIO(data), data[:HEAD_BYTES], FORMATS, name) as image:
            _require_size(image, name, max_pixels)
            yield image


def read_image(path: ImageSource) -> Tensor:
    """Read an image: uint8 (3, H, W), converted as by `to_upright_rgb`. Raises: BadFileError."""
    import torch  # noqa: PLC0415 - see the module's docstring

    return torch.from_numpy(read_pixels(path)).permute(2, 0, 1).contiguous()


def read_pixels(path: ImageSource) -> np.ndarray:
    """Read an image: uint8 (H, W, 3), converted as by `to_upright_rgb`. Raises: BadFileError."""
    with open_image(path) as image:
        return _to_array(to_upright_rgb(image, path))


def to_upright_rgb(image: Image.Image, path: ImageSource | str) -> Image.Image:
    """Apply the EXIF orientation and convert to RGB: 16-bit gray is scaled to 8 bits, alpha is dropped.

    Raises: BadFileError for 32-bit pixels, and for 12-bit values in 16 bits, which would be nearly black.
    """
    has_16_bits = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    image = _apply_exif_orientation(image)
    if image.mode.startswith("I;16"):
        gray = np.asarray(image)
        _require_16_bits(int(gray.max()), path)
        scaled = _to_uint8(gray)
        # Pillow inverts 8 bits by itself, but not 16
        return Image.fromarray(255 - scaled if _is_min_white(image) else scaled).convert("RGB")
    if has_16_bits and image.mode in ("RGB", "RGBA", "LA"):
        colors = image.convert(image.mode.removesuffix("A")).getextrema()
        _require_16_bits(256 * int(np.max(colors)) + 255, path)  # Pillow keeps the high bytes
    if image.mode in ("I", "F") or _is_signed(image):
        kind = "signed" if _is_signed(image) else "32-bit"
        reason = f"has {kind} pixels; expected 8 or 16 bits per channel"
        raise bad_file_error(path, "pixel-type", reason, "Save it with 8 bits per channel")
    if "transparency" in image.info:  # Pillow can't drop the transparency of a palette in one step
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_mask(path: Path, mask_classes: int) -> Tensor:
    """Read a mask as class indices: uint8 (H, W); see `read_mask_indices`."""
    import torch  # noqa: PLC0415 - see the module's docstring

    return torch.from_numpy(read_mask_indices(path, mask_classes))


def read_mask_indices(path: Path, mask_classes: int) -> np.ndarray:
    """Read a mask as class indices, with its EXIF orientation applied: uint8 (H, W).

    mask_classes: number of classes. 1: pixel 0 is background, 1 or 255 is the class. M >= 2: pixels are 0..M-1.
    Raises: BadFileError, also for pixel values that are no class.
    """
    with open_image(path, MASK_FORMATS) as image:
        values = read_mask_values(image, path)
    return to_class_indices(values, mask_classes, path)


def read_mask_values(image: Image.Image, path: Path) -> np.ndarray:
    """Read the pixel values of an open mask as stored, with its EXIF orientation applied: integers (H, W).

    A GIF is read by the colors of its first frame, as its writer chooses the indices. Raises: BadFileError for colors
    and for fractions, and where programs disagree about what is marked: in a TIFF or a palette in which 0 is white, and
    where marked pixels are transparent.
    """
    if _is_min_white(image):
        reason = "is a TIFF in which 0 is white (photometric 0), so programs disagree about what is marked"
        fix = "Save it as a PNG in which marked pixels are white (ImageJ: Image > Lookup Tables > Invert LUT first)"
        raise bad_file_error(path, "mask-format", reason, fix)
    image = _apply_exif_orientation(image)  # an editor may copy the photo's orientation into the mask
    if image.mode == "P" and image.format != "GIF" and has_white_first(image):
        reason = "is an indexed image in which 0 is white and the other index is black, so programs disagree about it"
        raise bad_file_error(path, "mask-format", reason, "Save it as a gray PNG in which marked pixels are white")
    image = image.convert("RGBA" if image.has_transparency_data else "RGB") if image.format == "GIF" else image
    values = np.array(image)  # indices of a palette image, booleans of a 1-bit image
    alpha = np.asarray(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
    if values.ndim == 3:
        values = values[..., : len(image.getbands()) - ("A" in image.getbands())]
        if not (values == values[..., :1]).all():
            reason = "has colors; expected class indices: an indexed or gray PNG"
            raise bad_file_error(path, "mask-format", reason, "Save the class index of each pixel")
        values = values[..., 0]
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "ui":
        reason = f"has {values.dtype} pixels; expected integers: an indexed or gray PNG"
        raise bad_file_error(path, "mask-format", reason, "Save the class index of each pixel")
    if alpha is not None and (values[alpha == 0].any() or (alpha.min() < alpha.max() and not values.any())):
        reason = "has a drawing that is in its transparency, or marks pixels that are transparent"
        raise bad_file_error(path, "mask-format", reason, "Save it without transparency: white on black")
    return values


def unique_mask_values(path: Path) -> frozenset[int]:
    """Collect the different pixel values of a mask file, as stored. Raises: BadFileError."""
    with open_image(path, MASK_FORMATS) as image:
        return frozenset(int(value) for value in np.unique(read_mask_values(image, path)))


def to_class_indices(values: np.ndarray, mask_classes: int, path: Path) -> np.ndarray:
    """Convert stored mask values (H, W) to class indices, uint8 (H, W); mask_classes as for `read_mask_indices`.

    Raises: BadFileError that lists the values without a class.
    """
    indices = np.where(values == 255, 1, values) if mask_classes == 1 else values
    count = max(mask_classes, 2)
    if indices.max() >= count or indices.min() < 0:
        if mask_classes == 1 and (error := two_value_error(path, frozenset(np.unique(values).tolist()))):
            raise error
        unknown = [str(value) for value in np.unique(indices) if not 0 <= value < count]
        expected = "0 and 1 (or 255)" if mask_classes == 1 else f"0 to {mask_classes - 1}"
        listed = ", ".join(unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        reason = f"has pixel values {listed}; expected {expected}"
        fix = "Name every value in mask_classes of dataset.toml, background (0) first; save masks as PNG, not as JPEG"
        raise bad_file_error(path, "mask-values", reason, fix)
    return indices.astype(np.uint8)


def two_value_error(path: Path, values: frozenset[int]) -> BadFileError | None:
    """The error for a mask of black and another white than 255, such as 254 or 65535; None for other values."""
    marked = max(values, default=0)
    if not values <= {0, marked} or marked < _MIN_WHITE or marked == 255:
        return None
    depth = " in 16 bits" if marked > 255 else ""
    reason = f"has the two pixel values 0 and {marked}{depth}; expected 0 and 255 (or 1)"
    return bad_file_error(path, "mask-values", reason, f"Save it with 8 bits, and {marked} as 255")


@contextmanager
def _bad_file_errors(path: Path | str) -> Iterator[None]:
    """Convert every error about an image into a BadFileError."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise bad_file_error(path, "missing", "does not exist") from None
    except UnidentifiedImageError:
        reason = f"is not an image in a supported format; expected {', '.join(FORMATS)}"
        raise bad_file_error(path, "unreadable", reason) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise bad_file_error(path, "missing", "is a broken link") from None
        raise _damaged_error(path, error) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large_error(path, f"has too many pixels: {error}") from None
    except Exception as error:  # decoders raise many different errors for damaged files
        raise _damaged_error(path, error) from error


def _damaged_error(path: Path | str, error: Exception) -> BadFileError:
    kind = "truncated" if "truncated" in str(error) else "unreadable"
    return bad_file_error(path, kind, f"is damaged: {error}")


def _open(source: Path | io.BytesIO, head: bytes, formats: tuple[str, ...], path: Path | str) -> Image.Image:
    """Open an image. head: its first bytes. Raises: BadFileError for files that are named as what they are."""
    if _QUIET not in warnings.filters:  # what Pillow says of a file, raw and without its name
        warnings.filterwarnings("ignore", module=_PILLOW)
    try:
        known = head.startswith(_COMMON_HEADS)
        image = Image.open(source, formats=formats if known else find_formats(head, formats))
        if getattr(image, "is_animated", False):
            log_further_pages(image, path)
        return image
    except UnsupportedFormatError as error:
        raise bad_file_error(path, "unsupported", error.reason, error.fix) from None
    except UnidentifiedImageError:
        if not is_tiff(head):
            raise
        reason = "is a TIFF that is damaged, or whose pixels are not read: 64 bits, or 2 or more than 4 channels"
        raise bad_file_error(path, "unreadable", reason, "Save it with 8 or 16 bits, in gray or RGB") from None


def _require_size(image: Image.Image, path: Path | str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise _too_large_error(path, f"has {image.width} x {image.height} pixels; the limit is {max_pixels:,}")


def _too_large_error(path: Path | str, reason: str) -> BadFileError:
    return bad_file_error(path, "decompression-bomb", reason, "Resize or crop the image, or remove its row")


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Decode an image and rotate it in place; a rotated copy of the largest scan would take 1.2 GB more."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _is_min_white(image: Image.Image) -> bool:
    """Whether an open file is a TIFF in which 0 is white."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _is_signed(image: Image.Image) -> bool:
    """Whether an open file is a TIFF of signed integers, which Pillow may read as unsigned."""
    return 2 in getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, ())


def _require_16_bits(largest: int, path: ImageSource | str) -> None:
    if 0 < largest < _MAX_12_BITS:
        reason = f"has 16 bits per channel, but no value above {largest:,} of 65,535, as cameras of 12 bits write"
        raise bad_file_error(path, "pixel-type", reason, "Multiply its values by 16, or save it with 8 bits")


def _to_array(image: Image.Image) -> np.ndarray:
    """Convert an RGB image to uint8 (H, W, 3), in bands."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _to_uint8(gray: np.ndarray) -> np.ndarray:
    """Scale 16-bit gray (H, W) to uint8 (H, W), in bands."""
    scaled = np.empty(gray.shape, np.uint8)
    for top in range(0, len(gray), _BAND_ROWS):
        scaled[top : top + _BAND_ROWS] = _UINT8_OF_UINT16[gray[top : top + _BAND_ROWS]]
    return scaled


def require_min_size(image: Tensor, name: str) -> tuple[int, int]:
    """Return the (H, W) of an image (3, H, W). Raises: DataError when a side has less than MIN_SIDE_PX pixels."""
    height, width = image.shape[-2:]
    if min(height, width) < MIN_SIDE_PX:
        raise DataError(
            f"{name or 'The image'} has {width} x {height} pixels; at least {MIN_SIDE_PX} a side are needed. "
            "Give the photo at its own size."
        )
    return height, width
