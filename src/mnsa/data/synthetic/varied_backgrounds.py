"""Backgrounds of the kind `varied`: linear RGB, float32 (S, S, 3). S: side of the image in pixels."""

import numpy as np
from PIL import Image, ImageDraw

from mnsa.data.synthetic.photo import blend, draw_soil, draw_wood, layered_noise, lch_to_linear_rgb, smooth_noise


def draw_background(name: str, size_px: int, px_per_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a background: white, paper, gray, lamp, cloth, soil, skin, grid, green or board."""
    if name == "soil":
        scene = draw_soil(rng, size_px)
    elif name == "board":
        scene = draw_wood(rng, size_px)
    elif name == "cloth":
        scene = _cloth(size_px, rng)
    elif name == "skin":
        scene = _skin(size_px, rng)
    elif name == "grid":
        scene = _grid(size_px, px_per_mm, rng)
    elif name == "green":
        scene = _green(size_px, rng)
    else:
        scene = _sheet(name, size_px, rng)
    return np.asarray(np.clip(scene, 0.0, 1.0), dtype=np.float32)


def _sheet(name: str, size_px: int, rng: np.random.Generator) -> np.ndarray:
    low, high, chroma = {
        "white": (88.0, 99.0, 3.0), "paper": (75.0, 95.0, 14.0), "gray": (15.0, 80.0, 3.0), "lamp": (92.0, 100.0, 6.0),
    }[name]  # fmt: skip
    if name == "paper" and rng.random() < 0.3:  # colored cardboard
        low, high, chroma = 20.0, 75.0, 60.0
    color = lch_to_linear_rgb(rng.uniform(low, high), rng.uniform(0.0, chroma), rng.uniform(0.0, 360.0))
    fibers = 0.0 if name in {"lamp", "white"} else rng.uniform(0.0, 0.04)
    return np.asarray(color * (1.0 + fibers * layered_noise(rng, 24, 3, size_px))[..., None])


def _cloth(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Black or dark cloth: threads, fluff, and a few bright specks."""
    color = lch_to_linear_rgb(rng.uniform(2.0, 22.0), rng.uniform(0.0, 8.0), rng.uniform(0.0, 360.0))
    fine = smooth_noise(rng, (int(size_px / rng.uniform(1.2, 4.0)),) * 2, size_px)
    rough = 0.5 * rng.uniform(0.1, 0.8) * fine + 0.15 * layered_noise(rng, 6, 3, size_px)
    if rng.random() < 0.4:
        turn = np.linspace(0.0, rng.uniform(60.0, 200.0) * np.pi, size_px)
        rough = rough + 0.2 * np.sin(turn)[:, None] * np.sin(turn)[None, :]
    scene = color * np.clip(1.0 + rough, 0.2, 3.0)[..., None]
    specks = rng.random((size_px, size_px)) < rng.uniform(0.0, 0.0008)
    scene[specks] += rng.uniform(0.05, 0.4)
    return np.asarray(scene)


def _skin(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """A hand: cylinders of fingers side by side, with creases and pores."""
    lightness, turn = rng.uniform(35.0, 75.0), rng.uniform(0.0, np.pi)
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32) / size_px
    across = np.cos(turn) * x + np.sin(turn) * y + 0.03 * smooth_noise(rng, (3, 3), size_px)
    fingers = (across * rng.uniform(1.0, 4.5) + rng.random()) % 1.0
    round_ = np.sqrt(np.clip(4.0 * fingers * (1.0 - fingers), 0.02, 1.0))
    skin = blend(
        lch_to_linear_rgb(lightness - 22.0, 26.0, rng.uniform(35.0, 55.0)),
        lch_to_linear_rgb(lightness, 24.0, rng.uniform(50.0, 65.0)),
        round_,
    )
    along = (-np.sin(turn) * x + np.cos(turn) * y + 0.02 * smooth_noise(rng, (8, 8), size_px)) * rng.uniform(4.0, 30.0)
    creases = np.exp(-(((along % 1.0) - 0.5) ** 2) / 0.002) * rng.uniform(0.0, 0.2)
    pores = 0.05 * smooth_noise(rng, (size_px // 3, size_px // 3), size_px)
    return np.asarray(skin * (1.0 - creases + pores)[..., None])


def _grid(size_px: int, px_per_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Paper with lines every millimeter, or every five where that is too fine."""
    step = px_per_mm * (1.0 if px_per_mm >= 5.0 else 5.0)
    canvas = Image.new("L", (2 * size_px,) * 2)
    draw, turn = ImageDraw.Draw(canvas), rng.choice([0.0, rng.uniform(-0.8, 0.8)])
    for direction in (turn, turn + np.pi / 2.0):
        along = 3.0 * size_px * np.array([np.cos(direction), np.sin(direction)])
        across = np.array([-np.sin(direction), np.cos(direction)])
        for n in range(-int(0.8 * size_px / step) - 1, int(0.8 * size_px / step) + 2):
            middle = size_px + 2.0 * n * step * across
            strong = n % 5 == 0
            draw.line([*(middle - along), *(middle + along)], fill=255 if strong else 130, width=3 if strong else 1)
    lines = np.asarray(canvas.reduce(2), np.float32) / 255.0
    ink = lch_to_linear_rgb(rng.uniform(30.0, 75.0), rng.uniform(0.0, 50.0), rng.uniform(0.0, 360.0))
    return blend(_sheet("white", size_px, rng), ink, rng.uniform(0.3, 0.9) * lines)


def _green(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Other plants out of focus."""
    leaves = np.clip(0.5 + 0.35 * layered_noise(rng, int(rng.integers(2, 6)), 2, size_px), 0.0, 1.0)
    dark = lch_to_linear_rgb(rng.uniform(5.0, 35.0), rng.uniform(8.0, 30.0), rng.uniform(100.0, 140.0))
    light = lch_to_linear_rgb(rng.uniform(40.0, 85.0), rng.uniform(20.0, 55.0), rng.uniform(95.0, 130.0))
    return blend(dark, light, leaves)
