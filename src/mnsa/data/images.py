"""Safe reading of images and masks: a few formats, a pixel limit, and errors that name the file.

H, W image size in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mnsa.errors import DataError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
MAX_PIXELS = 20_000 * 20_000  # what a flatbed scanner yields at most; beyond it a small file could fill the memory
# Colours of mask classes 0, 1, 2, ... in written masks, for human eyes only.
PALETTE = (0, 0, 0, 255, 255, 255, 230, 159, 0, 86, 180, 233, 0, 158, 115, 240, 228, 66, 0, 114, 178, 213, 94, 0)

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit is smaller and would refuse honest scans


def read_image(path: Path) -> Tensor:
    """Read an image, upright as its EXIF data say: uint8 (3, H, W), RGB; 16-bit grey is scaled to 8, alpha dropped.

    Raises: DataError naming the file and what is wrong with it.
    """
    with _opened(path) as image:
        pixels = np.array(_rgb(ImageOps.exif_transpose(image)))  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(path: Path, mask_classes: int) -> Tensor:
    """Read a mask as class indices: uint8 (H, W).

    mask_classes: 1 reads 0 as background and 1 or 255 as the class; M >= 2 reads 0..M-1.
    Raises: DataError naming the file and every value that stands for no class.
    """
    raw = _raw_mask(path)
    mask = np.where(raw == 255, 1, raw) if mask_classes == 1 else raw
    declared = max(mask_classes, 2)
    if mask.max() >= declared:
        strangers = [str(value) for value in np.unique(mask) if value >= declared]
        expected = "0 and 1 (or 255)" if mask_classes == 1 else f"0 to {mask_classes - 1}"
        values = ", ".join(strangers[:8]) + (", ..." if len(strangers) > 8 else "")
        raise DataError(f"Mask {path} has pixel values {values}; expected {expected}. Save masks as PNG, not as JPEG.")
    return torch.from_numpy(mask.astype(np.uint8))


def mask_values(path: Path) -> frozenset[int]:
    """Collect the pixel values that occur in a mask file, before any meaning is given to them."""
    return frozenset(int(value) for value in np.unique(_raw_mask(path)))


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write class indices, uint8 (H, W), as an indexed PNG that `read_mask` gives back and a viewer shows in colour."""
    image = Image.fromarray(mask)
    image.putpalette(PALETTE)
    image.save(path, format="PNG")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes). Restore the file, or drop its row.")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read.")
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"There is no file {path}. Restore the file, or drop its row.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that can be read; expected {', '.join(FORMATS)}.") from None
    except Exception as error:  # a decoder meets hostile bytes: what it raises is not bounded by any list
        raise DataError(f"{path} is broken: {error}. Restore the file, or drop its row.") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels; expected 8 or 16 bits per channel")
    if "transparency" in image.info:  # Pillow can't drop a palette's transparency in one step
        image = image.convert("RGBA")
    return image.convert("RGB")


def _raw_mask(path: Path) -> np.ndarray:
    with _opened(path) as image:
        raw = np.array(image)  # palette images give their indices, 1-bit images booleans
        colours = len(image.getbands()) - ("A" in image.getbands())
    if raw.ndim == 3:
        raw = raw[..., :colours]
        if not (raw == raw[..., :1]).all():
            raise DataError(f"Mask {path} is coloured; expected class indices: an indexed or a grey PNG.")
        raw = raw[..., 0]
    if raw.dtype == np.bool_:
        return raw.astype(np.uint8)
    if raw.dtype.kind not in "ui":
        raise DataError(f"Mask {path} holds {raw.dtype} pixels; expected whole numbers: an indexed or a grey PNG.")
    return raw
