"""Images and masks as tensors, and masks back to files. What is read, and how safely: `decoding`.

H, W image size in pixels.
"""

from pathlib import Path
from zlib import Z_RLE

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnsa.data.decoded_cache import DecodedCache
from mnsa.data.decoding import SUFFIXES, class_indices, opened, raw_mask, read_pixels

__all__ = ["SUFFIXES", "mask_values", "read_image", "read_mask", "write_mask"]

# Colours of mask classes 0, 1, 2, ... in written masks, for human eyes only.
PALETTE = (0, 0, 0, 255, 255, 255, 230, 159, 0, 86, 180, 233, 0, 158, 115, 240, 228, 66, 0, 114, 178, 213, 94, 0)


def read_image(path: Path, cache: DecodedCache | None = None) -> Tensor:
    """Read an image, upright as its EXIF data say: uint8 (3, H, W), RGB; 16-bit grey is scaled to 8, alpha dropped.

    cache: where decoded images are found or kept; the pixels are the same.
    Raises: DataError naming the file and what is wrong with it.
    """
    pixels = read_pixels(path) if cache is None else cache.read(path)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(path: Path, mask_classes: int) -> Tensor:
    """Read a mask as class indices, upright as its own EXIF data say: uint8 (H, W).

    mask_classes: 1 reads 0 as background and 1 or 255 as the class; M >= 2 reads 0..M-1.
    Raises: DataError naming the file and every value that stands for no class.
    """
    with opened(path) as image:
        raw = raw_mask(image, path)
    return torch.from_numpy(class_indices(raw, mask_classes, path))


def mask_values(path: Path) -> frozenset[int]:
    """Collect the pixel values that occur in a mask file, before any meaning is given to them."""
    with opened(path) as image:
        return frozenset(int(value) for value in np.unique(raw_mask(image, path)))


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write class indices, uint8 (H, W), as an indexed PNG that `read_mask` gives back and a viewer shows in colour."""
    image = Image.fromarray(mask)
    image.putpalette(PALETTE)
    # Run lengths take a third of the time of Pillow's usual search for repeats, and less room.
    image.save(path, format="PNG", compress_level=1, compress_type=Z_RLE)
