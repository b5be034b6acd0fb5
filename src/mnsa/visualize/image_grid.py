"""A grid of small images with captions, and the colors of mask classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe & Ito's colors, told apart by color-blind eyes too; one per mask class, in turn; the background has none.
MASK_COLORS = ((255, 220, 60), (230, 80, 60), (0, 158, 115), (86, 180, 233), (204, 121, 167), (0, 114, 178))

_MARGIN_PX, _CAPTION_PX = 8, 20


def write_image_grid(
    tiles: Sequence[tuple[str, np.ndarray]], path: Path, *, columns: int, tile_px: tuple[int, int]
) -> None:
    """Write captioned pictures, uint8 (H, W, 3) each, shrunk to fit `tile_px` (height, width), as one PNG."""
    height, width = tile_px
    step_x, step_y = width + _MARGIN_PX, height + _CAPTION_PX + _MARGIN_PX
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for index, (caption, pixels) in enumerate(tiles):
        tile = Image.fromarray(pixels)
        tile.thumbnail((width, height))
        x, y = _MARGIN_PX + index % columns * step_x, _MARGIN_PX + index // columns * step_y
        sheet.paste(tile, (x + (width - tile.width) // 2, y + height - tile.height))
        draw.text((x + width / 2, y + height + _CAPTION_PX / 2), caption, "black", font, anchor="mm")
    sheet.save(path)
