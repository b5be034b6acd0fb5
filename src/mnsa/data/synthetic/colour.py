"""Colours named in CIE Lab, light in linear RGB, and the slow noise that keeps surfaces from looking painted."""

import numpy as np
from PIL import Image
from skimage.color import lab2rgb

GAMMA = 2.2


def linear(lightness: float, chroma: float, hue_deg: float) -> np.ndarray:
    """Linear RGB (3,) in 0..1 of a colour in CIE LCh."""
    hue = np.deg2rad(hue_deg)
    lab = np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])
    return np.asarray(lab2rgb(lab[None, None])[0, 0] ** GAMMA)


def mix(under: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Lay `over` on `under`, both (H, W, 3) or (3,), where share (H, W) is 1."""
    return np.asarray(under + share[..., None] * (over - under))


def smooth_noise(rng: np.random.Generator, cells: tuple[int, int], size_px: int) -> np.ndarray:
    """Noise of standard deviation about 1 with `cells` bumps across the rows and columns, (size_px, size_px).

    The bumps are the same at every size_px.
    """
    grid = Image.fromarray(rng.standard_normal((cells[0] + 1, cells[1] + 1)).astype(np.float32))
    noise = np.asarray(grid.resize((size_px, size_px), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.asarray(noise / 0.7)


def layered_noise(rng: np.random.Generator, coarsest: int, octaves: int, size_px: int) -> np.ndarray:
    """Fractal noise: every octave twice as fine and 0.6 times as strong as the one before, (size_px, size_px)."""
    layers = [0.6**k * smooth_noise(rng, (coarsest << k, coarsest << k), size_px) for k in range(octaves)]
    return np.asarray(np.sum(layers, axis=0))
