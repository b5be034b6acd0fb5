"""A grid shows every tile with its caption."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.visualize.palette import CORRECT_COLOR, FALSE_POSITIVE_COLOR, MISSED_COLOR, WRONG_CLASS_COLOR
from mnsa.visualize.panels import PANEL_PX, class_panels, draw_difference, mask_panels, write_image_grid, write_panel


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


IMAGE = np.full((80, 80, 3), 90, np.uint8)


def test_the_difference_colors_each_pixel_by_comparing_both_masks() -> None:
    truth, predicted = np.array([[0, 1, 1, 0, 2]], np.uint8), np.array([[0, 1, 0, 2, 1]], np.uint8)
    drawn = draw_difference(np.full((1, 5, 3), 200, np.uint8), truth, predicted)
    colors = [CORRECT_COLOR, MISSED_COLOR, FALSE_POSITIVE_COLOR, WRONG_CLASS_COLOR]
    assert [tuple(pixel) for pixel in drawn[0, 1:].tolist()] == colors
    assert tuple(drawn[0, 0]) == (70, 70, 70)
    assert colors == [(0, 158, 115), (86, 180, 233), (213, 94, 0), (204, 121, 167)]


def test_all_panels_of_an_image_have_one_size() -> None:
    mask = np.zeros((80, 80), np.uint8)
    heatmap = np.eye(3, dtype=np.float32)
    panels = mask_panels(IMAGE, mask, mask) | class_panels(
        IMAGE, attention=heatmap, grad_cam=heatmap, grad_cam_true=heatmap
    )
    assert list(panels) == ["photo", "truth", "predicted", "difference", "attention", "grad_cam", "grad_cam_true"]
    assert {panel.shape for panel in panels.values()} == {(PANEL_PX, PANEL_PX, 3)}


@pytest.mark.parametrize("name", ["attention", "grad_cam", "grad_cam_true"])
def test_a_map_that_is_given_is_drawn_under_its_name(name: str) -> None:
    panels = class_panels(IMAGE, **{name: np.array([[0, 0], [0, 1.0]], np.float32)})
    assert list(panels) == ["photo", name]
    light = panels[name].mean(axis=-1)
    assert light[-1, -1] > light[0, 0]


def test_a_wide_photo_is_shrunk_by_its_longer_side_and_written_as_jpeg(tmp_path: Path) -> None:
    truth, predicted = np.zeros((300, 900), np.uint8), np.zeros((300, 900), np.uint8)
    truth[:, 450] = 1  # a vein of one pixel
    panels = mask_panels(np.full((300, 900, 3), 90, np.uint8), truth, predicted)
    assert {panel.shape for panel in panels.values()} == {(round(PANEL_PX / 3), PANEL_PX, 3)}
    assert (panels["truth"] != panels["predicted"]).any()  # the vein stays visible
    write_panel(panels["truth"], tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (PANEL_PX, round(PANEL_PX / 3)))
