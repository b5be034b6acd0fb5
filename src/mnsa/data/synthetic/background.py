"""What leaves are photographed on: paper, a scanner's lid, wood, soil. Linear RGB, (size_px, size_px, 3)."""

import numpy as np

from mnsa.data.synthetic.colour import layered_noise, linear, mix, smooth_noise


def draw_background(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """One of the four, evenly lit."""
    draw = (_paper, _scanner, _wood, _soil)[int(rng.choice(4, p=(0.35, 0.25, 0.2, 0.2)))]
    return np.asarray(np.clip(draw(rng, size_px), 0.0, 1.0))


def _paper(rng: np.random.Generator, size_px: int) -> np.ndarray:
    sheet = linear(rng.uniform(90.0, 96.0), rng.uniform(0.0, 4.0), rng.uniform(70.0, 100.0))
    fibres = layered_noise(rng, 24, 3, size_px)
    return np.asarray(sheet * (1.0 + 0.012 * fibres)[..., None])


def _scanner(rng: np.random.Generator, size_px: int) -> np.ndarray:
    lid = linear(rng.uniform(55.0, 82.0), rng.uniform(0.0, 3.0), rng.uniform(0.0, 360.0))
    return np.asarray(lid * (1.0 + 0.01 * smooth_noise(rng, (2, 2), size_px))[..., None])


def _wood(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Growth rings cut lengthwise: bands across a slow field that is much longer than wide."""
    lightness, hue = rng.uniform(50.0, 72.0), rng.uniform(62.0, 76.0)
    across = np.linspace(0.0, 1.0, size_px)[None, :]
    rings = rng.uniform(9.0, 16.0) * across + 0.9 * smooth_noise(rng, (2, 6), size_px)
    band = rings % 1.0
    late = np.minimum(band**3 * 1.6, 1.0) * np.clip((1.0 - band) / 0.12, 0.0, 1.0)  # darkens slowly, then a sharp edge
    pores = smooth_noise(rng, (10, 150), size_px)
    board = mix(linear(lightness, 26.0, hue), linear(lightness - 17.0, 30.0, hue - 8.0), 0.7 * late)
    return np.asarray(board * (1.0 + 0.05 * pores)[..., None])


def _soil(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Crumbs of many sizes, each lit on one flank, with dark gaps between."""
    crumbs = 0.4 * layered_noise(rng, 16, 4, size_px) + 0.4 * smooth_noise(rng, (128, 128), size_px)
    height = np.abs(crumbs) - 0.5
    slope = (np.roll(height, 1, axis=0) - height + np.roll(height, 1, axis=1) - height) * size_px / 256.0
    tint = np.clip(0.5 + 0.2 * layered_noise(rng, 5, 3, size_px), 0.0, 1.0)
    lightness = rng.uniform(24.0, 36.0)
    earth = mix(linear(lightness, 12.0, 60.0), linear(lightness + 12.0, 18.0, 68.0), tint)
    return np.asarray(earth * np.clip(0.9 + 0.6 * height + 0.9 * slope, 0.1, 2.2)[..., None])
