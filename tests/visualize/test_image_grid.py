"""A grid shows every tile with its caption."""

from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.visualize.image_grid import write_image_grid


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_grid_has_room_for_every_tile(tmp_path: Path) -> None:
    green = np.full((30, 20, 3), (0, 200, 0), np.uint8)
    tiles = [("one", green), ("two", green), ("three", green)]
    write_image_grid(tiles, tmp_path / "grid.png", columns=2, tile_px=(30, 40))
    pixels = read_pixels(tmp_path / "grid.png")
    assert (pixels == (0, 200, 0)).all(-1).sum() == 3 * 30 * 20


def test_a_large_image_is_shrunk_and_the_caption_is_written(tmp_path: Path) -> None:
    black = np.zeros((300, 300, 3), np.uint8)
    write_image_grid([("", black)], tmp_path / "plain.png", columns=1, tile_px=(50, 60))
    write_image_grid([("leaf", black)], tmp_path / "captioned.png", columns=1, tile_px=(50, 60))
    plain, captioned = (read_pixels(tmp_path / f"{name}.png") for name in ("plain", "captioned"))
    assert plain.shape == captioned.shape
    assert (plain == 0).all(-1).sum() == 50 * 50
    assert (plain != captioned).any()
