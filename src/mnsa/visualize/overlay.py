"""Draw a mask over its image."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from mnsa.visualize.image_grid import MASK_COLORS

_MAX_JPEG_PX = 65_500  # the longest side that a JPEG may have

_STRIP_ROWS = 256  # of a scan: whole copies of it in other types would take gigabytes


def draw_overlay(image: np.ndarray, mask: np.ndarray, *, strength: float = 0.6) -> np.ndarray:
    """Tint the mask's classes: image uint8 (H, W, 3), mask class indices (H, W) -> uint8 (H, W, 3)."""
    tinted = image.astype(np.float32)
    for index in np.unique(mask[mask > 0]):
        where, color = mask == index, MASK_COLORS[(index - 1) % len(MASK_COLORS)]
        tinted[where] = (1 - strength) * tinted[where] + strength * np.array(color, np.float32)
    return tinted.round().astype(np.uint8)


def draw_large_overlay(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The same as a picture, made band by band."""
    height, width = mask.shape
    picture = Image.new("RGB", (width, height))
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        picture.paste(Image.fromarray(draw_overlay(image[rows], mask[rows])), (0, top))
    return picture


def write_overlay(image: np.ndarray, mask: np.ndarray, file: Path | BinaryIO) -> None:
    """The same as a JPEG, a tenth of the time of a PNG; shrunk where a side is longer than a JPEG's may be."""
    picture = draw_large_overlay(image, mask)
    picture.thumbnail((_MAX_JPEG_PX, _MAX_JPEG_PX))
    picture.save(file, format="JPEG", quality=90, subsampling=0)  # veins are narrow: colors stay as sharp as the image
