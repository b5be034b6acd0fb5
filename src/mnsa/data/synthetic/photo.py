"""Render the photo of a leaf: background, pigment, relief, gloss, spots, shadow, and the errors of a camera.

Colors are defined in CIE LCh. Light is linear RGB, (size_px, size_px, 3). Low-frequency noise adds texture to surfaces.
light: direction of the light in the image plane, in radians.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb

from mnsa.data.synthetic.leaf_shape import LeafParameters

GAMMA = 2.2


def lch_to_linear_rgb(lightness: float, chroma: float, hue_deg: float) -> np.ndarray:
    """Convert a color from CIE LCh to linear RGB, (3,) in 0..1."""
    hue = np.deg2rad(hue_deg)
    most_yellow = 200.0 * (lightness + 16.0) / 116.0  # beyond, Z would be negative: lab2rgb clips it, with a warning
    lab = np.array([lightness, chroma * np.cos(hue), min(chroma * np.sin(hue), most_yellow)])
    return np.asarray(lab2rgb(lab[None, None])[0, 0] ** GAMMA)


def blend(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend `over` onto `under`, both (H, W, 3) or (3,). alpha: (H, W), opacity of `over` in 0..1."""
    return np.asarray(under + alpha[..., None] * (over - under))


def smooth_noise(rng: np.random.Generator, cells: tuple[int, int], size_px: int) -> np.ndarray:
    """Draw smooth noise with a standard deviation of about 1, (size_px, size_px).

    cells: size of the random grid that is interpolated, in rows and columns. The pattern is the same at every size_px.
    """
    grid = Image.fromarray(rng.standard_normal((cells[0] + 1, cells[1] + 1)).astype(np.float32))
    noise = np.asarray(grid.resize((size_px, size_px), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.asarray(noise / 0.7)


def layered_noise(rng: np.random.Generator, coarsest: int, octaves: int, size_px: int) -> np.ndarray:
    """Draw fractal noise, (size_px, size_px). Each octave doubles the frequency; its amplitude is 0.6 of the last."""
    layers = [0.6**k * smooth_noise(rng, (coarsest << k, coarsest << k), size_px) for k in range(octaves)]
    return np.asarray(np.sum(layers, axis=0))


def draw_background(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Draw a random background in even light: paper, scanner lid, wood or soil, (size_px, size_px, 3)."""
    draw = (_paper, _scanner, draw_wood, draw_soil)[int(rng.choice(4, p=(0.35, 0.25, 0.2, 0.2)))]
    return np.asarray(np.clip(draw(rng, size_px), 0.0, 1.0))


class LeafLayers(NamedTuple):
    """The geometry of a leaf per pixel, (size_px, size_px) each.

    blade, petiole: covered fraction of the pixel, 0..1. tone: contrast of the vein at the pixel, 0..1 (1: the midrib).
    along, across: coordinates of the pixel in the leaf frame.
    """

    blade: np.ndarray
    petiole: np.ndarray
    tone: np.ndarray
    along: np.ndarray
    across: np.ndarray


def render_photo(layers: LeafLayers, parameters: LeafParameters, rng: np.random.Generator) -> np.ndarray:
    """Render the photo: uint8 (size_px, size_px, 3), sRGB."""
    size_px = len(layers.blade)
    light = rng.uniform(0.0, 2.0 * np.pi)
    scene = _cast_shadow(draw_background(rng, size_px), layers, light, rng)
    scene = blend(scene, _shade_petiole(layers, parameters, light), layers.petiole)
    blade = _shade(_pigment(layers, parameters, rng), layers, parameters, light, rng)
    scene = blend(scene, blade, layers.blade)
    return _expose(scene, light, rng)


def _paper(rng: np.random.Generator, size_px: int) -> np.ndarray:
    sheet = lch_to_linear_rgb(rng.uniform(90.0, 96.0), rng.uniform(0.0, 4.0), rng.uniform(70.0, 100.0))
    fibers = layered_noise(rng, 24, 3, size_px)
    return np.asarray(sheet * (1.0 + 0.012 * fibers)[..., None])


def _scanner(rng: np.random.Generator, size_px: int) -> np.ndarray:
    lid = lch_to_linear_rgb(rng.uniform(55.0, 82.0), rng.uniform(0.0, 3.0), rng.uniform(0.0, 360.0))
    return np.asarray(lid * (1.0 + 0.01 * smooth_noise(rng, (2, 2), size_px))[..., None])


def draw_wood(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Draw a board: growth rings as bands of a smooth field that is much longer than wide."""
    lightness, hue = rng.uniform(50.0, 72.0), rng.uniform(62.0, 76.0)
    across = np.linspace(0.0, 1.0, size_px)[None, :]
    rings = rng.uniform(9.0, 16.0) * across + 0.9 * smooth_noise(rng, (2, 6), size_px)
    band = rings % 1.0
    late = np.minimum(band**3 * 1.6, 1.0) * np.clip(
        (1.0 - band) / 0.12, 0.0, 1.0
    )  # late wood: gets darker slowly, then ends at a sharp edge
    pores = smooth_noise(rng, (10, 150), size_px)
    board = blend(
        lch_to_linear_rgb(lightness, 26.0, hue), lch_to_linear_rgb(lightness - 17.0, 30.0, hue - 8.0), 0.7 * late
    )
    return np.asarray(board * (1.0 + 0.05 * pores)[..., None])


def draw_soil(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Draw crumbs of many sizes, each lit from one side, with dark gaps between them."""
    crumbs = 0.4 * layered_noise(rng, 16, 4, size_px) + 0.4 * smooth_noise(rng, (128, 128), size_px)
    height = np.abs(crumbs) - 0.5
    slope = (np.roll(height, 1, axis=0) - height + np.roll(height, 1, axis=1) - height) * size_px / 256.0
    tint = np.clip(0.5 + 0.2 * layered_noise(rng, 5, 3, size_px), 0.0, 1.0)
    lightness = rng.uniform(24.0, 36.0)
    earth = blend(lch_to_linear_rgb(lightness, 12.0, 60.0), lch_to_linear_rgb(lightness + 12.0, 18.0, 68.0), tint)
    return np.asarray(earth * np.clip(0.9 + 0.6 * height + 0.9 * slope, 0.1, 2.2)[..., None])


def _pigment(layers: LeafLayers, parameters: LeafParameters, rng: np.random.Generator) -> np.ndarray:
    """Compute the color of the blade in even light: patches of green, paler veins, a few spots."""
    size_px = len(layers.blade)
    lightness, chroma = rng.normal(40.0, 1.3), rng.normal(36.0, 1.2)
    patches = np.clip(0.5 + 0.22 * layered_noise(rng, 4, 4, size_px), 0.0, 1.0)
    green = blend(
        lch_to_linear_rgb(lightness - 3.5, chroma - 2.0, parameters.hue_deg + 2.0),
        lch_to_linear_rgb(lightness + 4.0, chroma + 3.0, parameters.hue_deg - 2.5),
        patches,
    )
    halo = gaussian_filter(layers.tone, 0.012 * size_px)  # the blade is paler beside its veins
    paler = np.clip(layers.tone + 0.35 * halo, 0.0, 1.0)
    pale = lch_to_linear_rgb(min(lightness + parameters.vein_lightness, 90.0), chroma - 6.0, parameters.hue_deg - 10.0)
    return _add_spots(blend(green, pale, paler), layers, rng)


def _add_spots(green: np.ndarray, layers: LeafLayers, rng: np.random.Generator) -> np.ndarray:
    """Add a random number of brown spots with a yellow rim."""
    size_px = len(layers.blade)
    ragged = 1.0 + 0.25 * smooth_noise(rng, (40, 40), size_px)
    for _ in range(int(rng.poisson(1.3))):
        x, y = rng.uniform(0.1, 0.9), rng.uniform(-0.25, 0.25)
        radius = rng.uniform(0.006, 0.018)
        distance = np.hypot(layers.along - x, layers.across - y) * ragged / radius
        green = blend(green, lch_to_linear_rgb(62.0, 45.0, 100.0), 0.5 * np.exp(-((distance / 1.6) ** 2)))
        green = blend(green, lch_to_linear_rgb(34.0, 24.0, 62.0), np.clip(1.6 - 1.4 * distance, 0.0, 0.85))
    return green


def _shade(
    pigment: np.ndarray, layers: LeafLayers, parameters: LeafParameters, light: float, rng: np.random.Generator
) -> np.ndarray:
    """Shade the blade: it folds along the midrib, bulges between its veins, and has some gloss."""
    size_px = len(layers.blade)
    valley = gaussian_filter(layers.tone, 0.006 * size_px) + gaussian_filter(layers.tone, 0.014 * size_px)
    waves = smooth_noise(rng, (3, 3), size_px)
    height = -0.012 * parameters.puckering * valley + 0.012 * waves
    height = height + 0.10 * np.abs(layers.across) * rng.uniform(0.3, 1.2) - 0.25 * layers.across**2
    down, right = (size_px * slope for slope in np.gradient(height))
    facing = -(np.cos(light) * right + np.sin(light) * down)
    diffuse = np.clip(1.0 + 0.9 * facing, 0.35, 1.7)
    tilt = rng.uniform(0.05, 0.2)
    highlight = np.exp(-((right + tilt * np.cos(light)) ** 2 + (down + tilt * np.sin(light)) ** 2) / 0.012)
    gloss = rng.uniform(0.02, 0.09)
    return np.asarray(pigment * diffuse[..., None] + gloss * highlight[..., None])


def _shade_petiole(layers: LeafLayers, parameters: LeafParameters, light: float) -> np.ndarray:
    """Shade the petiole: a round stem, slightly more yellow than the blade."""
    down, right = np.gradient(gaussian_filter(layers.petiole, 0.006 * len(layers.petiole)))
    facing = -(np.cos(light) * right + np.sin(light) * down) * 0.02 * len(layers.petiole)
    return np.asarray(
        lch_to_linear_rgb(52.0, 36.0, parameters.hue_deg - 10.0) * np.clip(1.0 + facing, 0.5, 1.5)[..., None]
    )


def _cast_shadow(scene: np.ndarray, layers: LeafLayers, light: float, rng: np.random.Generator) -> np.ndarray:
    """Add shadows to the background: a soft one away from the light, and a narrow one along the leaf's edge."""
    size_px = len(layers.blade)
    solid = np.maximum(layers.blade, layers.petiole)
    reach = rng.uniform(0.006, 0.02) * size_px
    shift = (round(-reach * np.sin(light)), round(-reach * np.cos(light)))
    soft = np.roll(gaussian_filter(solid, 0.8 * reach), shift, axis=(0, 1))
    contact = gaussian_filter(solid, 0.004 * size_px)
    shadow = rng.uniform(0.3, 0.6) * soft + 0.25 * contact
    return np.asarray(scene * (1.0 - np.minimum(shadow, 0.85))[..., None])


def _expose(scene: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    """Apply uneven light, exposure, white balance, blur and sensor noise; return uint8 sRGB."""
    size_px = len(scene)
    axis = np.linspace(-0.5, 0.5, size_px)
    lamp = 1.0 + rng.uniform(0.0, 0.25) * (np.cos(light) * axis[None, :] + np.sin(light) * axis[:, None])
    gain = rng.uniform(0.9, 1.1) * rng.uniform(0.98, 1.02, 3)
    scene = scene * lamp[..., None] * gain
    scene = gaussian_filter(scene, (*[rng.uniform(0.0012, 0.0026) * size_px] * 2, 0.0))
    pixels = 255.0 * np.clip(scene, 0.0, 1.0) ** (1.0 / GAMMA)
    noise = rng.uniform(1.0, 3.0) * rng.standard_normal(scene.shape)  # drawn last, as its shape depends on size_px
    return np.asarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))
