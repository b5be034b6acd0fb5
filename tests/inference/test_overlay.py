"""An overlay tints what the mask marks and nothing else; a sheet shows every tile."""

import numpy as np
from PIL import Image

from mnsa.inference.overlay import overlay, write_sheet


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def test_the_background_is_left_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 3] = 1
    differs = (overlay(image, mask) != image).any(-1)
    np.testing.assert_array_equal(differs, mask == 1)


def test_a_tint_of_full_strength_is_the_colour_itself_and_of_none_the_image():
    black, mask = np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)
    np.testing.assert_array_equal(overlay(black, mask, strength=0.0), black)
    full = overlay(black, mask, strength=1.0)
    np.testing.assert_allclose(overlay(black, mask, strength=0.5)[0, 1], full[0, 1] / 2, atol=0.5)


def test_neighbouring_classes_have_different_colours_however_many_there_are():
    mask = np.arange(1, 21, dtype=np.uint8)[None]
    (colours,) = overlay(np.zeros((1, 20, 3), np.uint8), mask, strength=1.0)
    assert (colours.sum(-1) > 0).all()
    assert (np.abs(np.diff(colours.astype(int), axis=0)).sum(-1) > 0).all()


def test_a_sheet_has_room_for_every_tile(tmp_path):
    green = np.full((30, 20, 3), (0, 200, 0), np.uint8)
    write_sheet([("one", green), ("two", green), ("three", green)], tmp_path / "sheet.png", columns=2, tile_px=(30, 40))
    pixels = pixels_of(tmp_path / "sheet.png")
    assert (pixels == (0, 200, 0)).all(-1).sum() == 3 * 30 * 20


def test_a_large_picture_is_shrunk_and_a_caption_is_written(tmp_path):
    write_sheet([("", np.zeros((300, 300, 3), np.uint8))], tmp_path / "plain.png", columns=1, tile_px=(50, 60))
    write_sheet([("leaf", np.zeros((300, 300, 3), np.uint8))], tmp_path / "named.png", columns=1, tile_px=(50, 60))
    plain, named = (pixels_of(tmp_path / f"{name}.png") for name in ("plain", "named"))
    assert plain.shape == named.shape
    assert (plain == 0).all(-1).sum() == 50 * 50
    assert (plain != named).any()
