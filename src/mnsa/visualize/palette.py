"""The colors of mask classes: the same in mask files, overlays, contact sheets, the web page and reports.

They are the colors of Okabe & Ito (2008, Color Universal Design), which people with any form of color blindness can
tell apart. Yellow and vermillion come first because they stand out on green leaves; bluish green comes last.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from zlib import Z_RLE

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

RGB = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
ORANGE: RGB = (230, 159, 0)
SKY_BLUE: RGB = (86, 180, 233)
BLUISH_GREEN: RGB = (0, 158, 115)
YELLOW: RGB = (240, 228, 66)
BLUE: RGB = (0, 114, 178)
VERMILLION: RGB = (213, 94, 0)
REDDISH_PURPLE: RGB = (204, 121, 167)

BACKGROUND_COLOR = BLACK

PALETTE: tuple[RGB, ...] = (
    YELLOW,
    VERMILLION,
    SKY_BLUE,
    REDDISH_PURPLE,
    BLUE,
    ORANGE,
    BLUISH_GREEN,
)  # classes 1, 2, ...

MASK_CLASSES_KEY = "mnsa:mask_classes"

# Pixels of a mask compared with the ground truth.
CORRECT_COLOR = BLUISH_GREEN
MISSED_COLOR = SKY_BLUE
FALSE_POSITIVE_COLOR = VERMILLION
WRONG_CLASS_COLOR = REDDISH_PURPLE


def class_color(index: int) -> RGB:
    """Return the color of a mask value as (red, green, blue), each 0..255.

    0 is the background, black. Values above the length of PALETTE repeat its colors.
    """
    return PALETTE[(index - 1) % len(PALETTE)] if index else BACKGROUND_COLOR


def hex_color(index: int) -> str:
    """Return the color of a mask value as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*class_color(index))


def mask_palette() -> list[int]:
    """Return the palette of an indexed PNG: red, green and blue of the mask values 0..255, 768 numbers."""
    return [channel for index in range(256) for channel in class_color(index)]


def write_mask(mask: np.ndarray, file: Path | BinaryIO, mask_classes: Sequence[str] = ()) -> None:
    """Write class indices, uint8 (H, W), as an indexed PNG: programs read the indices, viewers show the palette.

    mask_classes: names, kept in the file as a text (JSON) of the key MASK_CLASSES_KEY.
    """
    image = Image.fromarray(mask)
    image.putpalette(mask_palette())
    texts = PngInfo()
    if mask_classes:
        texts.add_text(MASK_CLASSES_KEY, json.dumps(list(mask_classes)))
    # Run-length encoding takes a third of the time of Pillow's default, and the files are smaller.
    image.save(file, format="PNG", compress_level=1, compress_type=Z_RLE, pnginfo=texts)
