"""A sheet shows every tile, with its caption."""

import numpy as np
from PIL import Image

from mnsa.visualize.image_grid import write_image_grid


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def test_a_sheet_has_room_for_every_tile(tmp_path):
    green = np.full((30, 20, 3), (0, 200, 0), np.uint8)
    write_image_grid(
        [("one", green), ("two", green), ("three", green)], tmp_path / "sheet.png", columns=2, tile_px=(30, 40)
    )
    pixels = pixels_of(tmp_path / "sheet.png")
    assert (pixels == (0, 200, 0)).all(-1).sum() == 3 * 30 * 20


def test_a_large_picture_is_shrunk_and_a_caption_is_written(tmp_path):
    write_image_grid([("", np.zeros((300, 300, 3), np.uint8))], tmp_path / "plain.png", columns=1, tile_px=(50, 60))
    write_image_grid([("leaf", np.zeros((300, 300, 3), np.uint8))], tmp_path / "named.png", columns=1, tile_px=(50, 60))
    plain, named = (pixels_of(tmp_path / f"{name}.png") for name in ("plain", "named"))
    assert plain.shape == named.shape
    assert (plain == 0).all(-1).sum() == 50 * 50
    assert (plain != named).any()
