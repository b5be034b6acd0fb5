"""Every class has one fixed color that people with color blindness can tell apart from the others."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from mnsa.visualize.palette import PALETTE, class_color, hex_color, mask_palette, write_mask

# Machado et al. 2009, severity 1.0; applied to linear RGB.
DEFICIENCIES = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def test_the_colors_are_those_of_okabe_and_ito_in_a_fixed_order() -> None:
    assert [class_color(index) for index in range(8)] == [
        (0, 0, 0),
        (240, 228, 66),
        (213, 94, 0),
        (86, 180, 233),
        (204, 121, 167),
        (0, 114, 178),
        (230, 159, 0),
        (0, 158, 115),
    ]


def perceived_distance(first: tuple[int, int, int], second: tuple[int, int, int], deficiency: str) -> float:
    """The distance in CIELAB (CIE 1976) after the simulated deficiency."""
    colors = np.array([first, second]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    encoded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return float(np.linalg.norm(np.subtract(*rgb2lab(encoded))))


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_all_pairs_of_colors_differ_for_people_with_color_blindness(deficiency: str) -> None:
    distances = [perceived_distance(a, b, deficiency) for a, b in combinations(PALETTE, 2)]
    assert min(distances) > 10  # 2.3 is a just noticeable difference


def test_the_background_is_black_and_colors_repeat_after_the_last() -> None:
    assert class_color(0) == (0, 0, 0)
    assert class_color(len(PALETTE) + 1) == class_color(1)
    assert class_color(255) in PALETTE


def test_hex_colors_and_the_png_palette_hold_the_same_colors() -> None:
    flat = mask_palette()
    assert len(flat) == 768
    for index in (0, 1, 2, 7, 8, 255):
        assert tuple(flat[3 * index : 3 * index + 3]) == class_color(index)
        assert bytes.fromhex(hex_color(index)[1:]) == bytes(class_color(index))


def test_a_written_mask_keeps_every_value_and_has_the_palettes_colors(tmp_path: Path) -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(mask, tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as written:
        assert np.array_equal(np.array(written), mask)
        colors = np.array(written.convert("RGB")).reshape(256, 3)
    assert [tuple(color) for color in colors] == [class_color(index) for index in range(256)]
