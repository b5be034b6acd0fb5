"""Pictures of an answer as bytes: what a page shows and a ZIP file holds.

H, W image size in pixels; h, w size of the attention map.
"""

import io

import numpy as np
from PIL import Image

from mnsa.data.sheet import COLOURS
from mnsa.inference.overlay import write_overlay

PREVIEW_PX = 1280
_QUALITY = 88


def mask_png(mask: np.ndarray) -> bytes:
    """Class indices, uint8 (H, W), as an indexed PNG in the overlay's colours; class 0 is transparent.

    Whoever reads the indices gets the mask; whoever shows the picture over the image gets the overlay.
    """
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, *(value for index in range(1, 256) for value in COLOURS[(index - 1) % len(COLOURS)])])
    return _encoded(image, "PNG", transparency=0)


def attention_png(attention: np.ndarray) -> bytes:
    """Attention, float (h, w) in 0..1, as 8-bit grey: 255 is 1."""
    return _encoded(Image.fromarray((attention * 255).round().astype(np.uint8)), "PNG")


def preview_jpeg(pixels: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3), as a JPEG of at most PREVIEW_PX a side: browsers can't show a TIFF."""
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return _encoded(image, "JPEG", quality=_QUALITY)


def overlay_jpeg(pixels: np.ndarray, mask: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3), tinted where its mask (H, W) has classes, as a JPEG of its own size."""
    data = io.BytesIO()
    write_overlay(pixels, mask, data)
    return data.getvalue()


def colour_of(value: int) -> str | None:
    """The colour of a mask value in these pictures, as #rrggbb; None for the background."""
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[(value - 1) % len(COLOURS)]) if value else None


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    data = io.BytesIO()
    image.save(data, format=form, **options)
    return data.getvalue()
