"""The marker gives the scale of photos that are turned, tilted, blurred and noisy, and nothing else does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mnsa.data.marker import DEFAULT_MM, PATTERN, draw_marker, find_marker_scale
from mnsa.errors import DataError


def photo(path: Path, *, scale: float, angle: float = 0.0, tilt: float = 0.0, noise: float = 4.0) -> np.ndarray:
    """A pinhole camera's photo of a table with the marker: `scale` px per mm in its middle.

    angle: of the marker on the table. tilt: of the camera, about both axes, in degrees.
    """
    with Image.open(path) as image:
        marker, mm_per_px = image.convert("L"), 25.4 / image.info["dpi"][0]
    size, distance_mm = (1000, 800), 300.0
    turn, lean = np.radians([angle, tilt])
    a = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    b = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
    c = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    rotation = c @ b @ a
    place = np.array([[mm_per_px, 0, -mm_per_px * marker.width / 2], [0, mm_per_px, -mm_per_px * marker.height / 2],
                      [0, 0, 1]])  # fmt: skip
    camera = np.array([[scale * distance_mm, 0, size[0] / 2], [0, scale * distance_mm, size[1] / 2], [0, 0, 1]])
    world = np.stack([rotation[:, 0], rotation[:, 1], [0, 0, distance_mm]], 1)
    inverse = np.linalg.inv(camera @ world @ place)
    coefficients = (inverse / inverse[2, 2]).ravel()[:8]
    seen = marker.transform(size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC, fillcolor=180)
    rng = np.random.default_rng(int(angle) + int(tilt))
    table = np.asarray(seen.filter(ImageFilter.GaussianBlur(0.8)), float) * 0.8 + 20
    table += np.linspace(0, 30, size[0])[None] + rng.normal(0, noise, table.shape)
    table[100:250, 80:200] = 40  # something dark on the table
    return np.repeat(table.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("marker") / "marker.png"
    draw_marker(path)
    return path


def test_the_marker_prints_at_its_size(marker: Path) -> None:
    with Image.open(marker) as image:
        width_mm = image.width / image.info["dpi"][0] * 25.4
        dark = np.asarray(image) < 128
    assert width_mm * 6 / 8 == pytest.approx(DEFAULT_MM, rel=1e-3)
    assert dark.any(1).mean() == pytest.approx(6 / 8)
    turns = [np.rot90(one, k).tobytes() for one in (PATTERN, PATTERN.T) for k in range(4)]
    assert len(set(turns)) == 8


@pytest.mark.parametrize(
    ("scale", "angle", "tilt"),
    [(4, 0, 0), (6, 45, 0), (3, 17, 5), (8, 100, 10), (5, 200, 10), (2, 30, 3), (9, 331, 7), (4, 90, -10)],
)
def test_the_scale_is_right_within_two_percent(marker: Path, scale: float, angle: float, tilt: float) -> None:
    found = find_marker_scale(photo(marker, scale=scale, angle=angle, tilt=tilt), DEFAULT_MM, "leaf.jpg")
    assert found == pytest.approx(scale, rel=0.02)


def test_a_marker_of_another_size_gives_another_scale(tmp_path: Path) -> None:
    draw_marker(tmp_path / "small.png", 15)
    pixels = photo(tmp_path / "small.png", scale=6, angle=20)
    assert find_marker_scale(pixels, 15, "leaf.jpg") == pytest.approx(6, rel=0.02)


def test_a_photo_without_a_whole_marker_is_named(marker: Path) -> None:
    seen = photo(marker, scale=5)
    seen[380:420, 500:520] = 255  # something lies on it
    empty, rng = np.full((600, 800, 3), 200, np.uint8), np.random.default_rng(0)
    square = empty.copy()
    square[100:300, 100:300] = 10
    for pixels in (seen, empty, square, rng.integers(0, 256, (400, 500, 3), np.uint8), photo(marker, scale=0.4)):
        with pytest.raises(DataError, match=r"leaf\.jpg shows no marker. Print one with `mnsa marker`"):
            find_marker_scale(pixels, DEFAULT_MM, "leaf.jpg")


def test_two_markers_of_different_sizes_are_refused(marker: Path, tmp_path: Path) -> None:
    draw_marker(tmp_path / "small.png", 15)
    pixels = np.concatenate([photo(marker, scale=5), photo(tmp_path / "small.png", scale=5)])
    with pytest.raises(DataError, match="2 markers of different sizes"):
        find_marker_scale(pixels, DEFAULT_MM, "leaf.jpg")


@pytest.mark.parametrize("size", [0, -3, 1, 500, float("nan")])
def test_a_marker_of_an_absurd_size_is_refused(size: float, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 5 to 200"):
        draw_marker(tmp_path / "marker.png", size)
