"""Heatmaps have their largest value at its own place, overlays the color of each class, grids every caption."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnsa.visualize.drawing import (
    PANEL_PX,
    class_panels,
    draw_difference,
    draw_heatmap,
    draw_large_overlay,
    draw_mask_outlines,
    draw_overlay,
    mask_panels,
    normalize_by_max,
    normalize_min_max,
    write_image_grid,
    write_overlay,
    write_panel,
)
from mnsa.visualize.palette import CORRECT_COLOR, FALSE_POSITIVE_COLOR, MISSED_COLOR, WRONG_CLASS_COLOR, class_color

GRAY = Image.new("RGB", (40, 20), (90, 90, 90))

IMAGE = np.full((80, 80, 3), 90, np.uint8)


def test_min_max_fills_0_to_1_and_by_max_keeps_0() -> None:
    values = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    np.testing.assert_allclose(normalize_min_max(values), [[0, 0.25], [0.5, 1]])
    np.testing.assert_allclose(normalize_by_max(values), values / 5)


@pytest.mark.parametrize("normalize", [normalize_min_max, normalize_by_max])
def test_a_map_of_zeros_stays_zero(normalize: Callable[[np.ndarray], np.ndarray]) -> None:
    assert not normalize(np.zeros((2, 3), np.float32)).any()


def test_large_values_are_lighter_at_their_own_place() -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    drawn = draw_heatmap(image, np.array([[0, 0, 0], [0, 0, 1.0]], np.float32)).astype(float)
    assert drawn.shape == image.shape
    light = drawn.mean(axis=-1)
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert row >= 20
    assert column >= 40
    assert light[-1, -1] > light[0, 0] + 30


def test_brightness_grows_with_the_value() -> None:
    image = np.full((1, 1, 3), 128, np.uint8)
    weights = np.array([0.299, 0.587, 0.114])
    light = [float(draw_heatmap(image, np.full((1, 1), v, np.float32))[0, 0] @ weights) for v in np.linspace(0, 1, 11)]
    assert light == sorted(light)


def test_the_background_stays_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 3] = 1
    differs = (draw_overlay(image, mask) != image).any(-1)
    np.testing.assert_array_equal(differs, mask == 1)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, (0, 0, 0)), (0.5, (120, 114, 33)), (1.0, (240, 228, 66))])
def test_the_strength_is_the_weight_of_the_palettes_color(strength: float, expected: tuple[int, int, int]) -> None:
    black, mask = np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)
    drawn = draw_overlay(black, mask, strength=strength)
    assert tuple(drawn[0, 1]) == expected
    assert tuple(drawn[0, 0]) == (0, 0, 0)


def test_every_class_has_the_palettes_color_even_the_twentieth() -> None:
    mask = np.arange(1, 21, dtype=np.uint8)[None]
    (colors,) = draw_overlay(np.zeros((1, 20, 3), np.uint8), mask, strength=1.0)
    assert [tuple(color) for color in colors] == [class_color(index) for index in range(1, 21)]


def test_a_tall_overlay_drawn_in_strips_equals_the_overlay_drawn_at_once() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (700, 9, 3), np.uint8), rng.integers(0, 4, (700, 9), np.uint8)
    np.testing.assert_array_equal(np.array(draw_large_overlay(image, mask)), draw_overlay(image, mask))


def test_a_vein_of_one_pixel_keeps_its_color_in_the_file() -> None:
    leaf, mask = np.full((64, 64, 3), (60, 120, 40), np.uint8), np.zeros((64, 64), np.uint8)
    mask[:, 32] = 1
    file = io.BytesIO()
    write_overlay(leaf, mask, file)
    written = np.array(Image.open(file)).astype(int)
    assert np.abs(written - draw_overlay(leaf, mask)).max() < 12  # with colors at half the resolution: 37


@pytest.mark.parametrize(("given", "written"), [((16, 65_500), (16, 65_500)), ((32, 70_000), (30, 65_500))])
def test_an_overlay_that_is_too_large_for_a_jpeg_is_shrunk(given: tuple[int, int], written: tuple[int, int]) -> None:
    file = io.BytesIO()
    write_overlay(np.zeros((*given, 3), np.uint8), np.zeros(given, np.uint8), file)
    assert Image.open(file).size == written[::-1]


def where_drawn(pixels: np.ndarray, index: int) -> np.ndarray:
    found: np.ndarray = (pixels == class_color(index)).all(axis=-1)
    return found


def test_a_mask_is_outlined_and_not_filled() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 10:30] = 1
    expected = mask.astype(bool)
    expected[6:14, 11:29] = False
    assert np.array_equal(where_drawn(draw_mask_outlines(GRAY, mask, (40, 20)), 1), expected)


def test_every_class_has_its_own_color() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[2:8, 2:8], mask[10:18, 20:30] = 1, 2
    drawn = draw_mask_outlines(GRAY, mask, (40, 20))
    assert where_drawn(drawn, 1)[2:8, 2:8].any()
    assert where_drawn(drawn, 2)[10:18, 20:30].any()
    assert not where_drawn(drawn, 2)[:9].any()


def test_a_vein_of_one_pixel_stays_visible_when_the_image_is_shrunk_tenfold() -> None:
    mask = np.zeros((400, 800), np.uint8)
    mask[:, 333] = 1
    drawn = draw_mask_outlines(GRAY.resize((800, 400)), mask, (80, 40))
    assert drawn.shape == (40, 80, 3)
    assert where_drawn(drawn, 1)[:, 33].all()
    assert where_drawn(drawn, 1).sum() == 40


def test_a_small_image_is_enlarged_and_its_outline_stays_thin() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 10:30] = 1
    drawn = draw_mask_outlines(GRAY, mask, (400, 400))
    assert drawn.shape == (200, 400, 3)
    assert where_drawn(drawn, 1).sum() == 2 * (100 + 200) - 4


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_the_grid_has_room_for_every_tile(tmp_path: Path) -> None:
    green = np.full((30, 20, 3), (0, 200, 0), np.uint8)
    tiles = [(["one"], green), (["two"], green), (["three"], green)]
    write_image_grid(tiles, tmp_path / "grid.png", columns=2, tile_px=(30, 40))
    pixels = read_pixels(tmp_path / "grid.png")
    assert (pixels == (0, 200, 0)).all(-1).sum() == 3 * 30 * 20


def test_a_large_image_is_shrunk_and_the_caption_is_written(tmp_path: Path) -> None:
    black = np.zeros((300, 300, 3), np.uint8)
    write_image_grid([([""], black)], tmp_path / "plain.png", columns=1, tile_px=(50, 60))
    write_image_grid([(["leaf"], black)], tmp_path / "captioned.png", columns=1, tile_px=(50, 60))
    plain, captioned = (read_pixels(tmp_path / f"{name}.png") for name in ("plain", "captioned"))
    assert plain.shape == captioned.shape
    assert (plain == 0).all(-1).sum() == 50 * 50
    assert (plain != captioned).any()


def test_a_caption_of_two_lines_has_both_and_stays_in_its_column(tmp_path: Path) -> None:
    white = np.full((50, 90, 3), 255, np.uint8)
    lines = ["a_long_name_of_a_photo_from_the_field.jpg", "oak · val"]
    write_image_grid([(lines, white), ([], white)], tmp_path / "grid.png", columns=2, tile_px=(50, 90))
    rows, columns, _ = np.nonzero(read_pixels(tmp_path / "grid.png") < 128)
    rows, columns = np.unique(rows), np.unique(columns)
    assert len(np.flatnonzero(np.diff(rows) > 2)) == 1  # a gap between two lines
    assert rows[0] > 8 + 50
    assert columns[-1] < 8 + 90 + 4


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
