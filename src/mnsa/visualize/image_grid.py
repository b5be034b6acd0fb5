"""A grid of small images, each with a caption, as one PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN_PX, _CAPTION_PX = 8, 20


def write_image_grid(
    tiles: Sequence[tuple[str, np.ndarray]], path: Path, *, columns: int, tile_px: tuple[int, int]
) -> None:
    """Write images with captions as a grid, row by row.

    tiles: (caption, image uint8 (H, W, 3)). tile_px: (height, width); larger images are shrunk to fit.
    """
    height, width = tile_px
    step_x, step_y = width + _MARGIN_PX, height + _CAPTION_PX + _MARGIN_PX
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(size=13)
    for index, (caption, pixels) in enumerate(tiles):
        tile = Image.fromarray(pixels)
        tile.thumbnail((width, height))
        x, y = _MARGIN_PX + index % columns * step_x, _MARGIN_PX + index // columns * step_y
        grid.paste(tile, (x + (width - tile.width) // 2, y + height - tile.height))
        draw.text((x + width / 2, y + height + _CAPTION_PX / 2), caption, "black", font, anchor="mm")
    grid.save(path)
