"""How the leaf looks in a photograph: pigment, relief, gloss, blemishes, shadow, and a camera that is not perfect."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from mnsa.data.synthetic.background import draw_background
from mnsa.data.synthetic.colour import GAMMA, layered_noise, linear, mix, smooth_noise
from mnsa.data.synthetic.cultivar import Habit


class Layers(NamedTuple):
    """What the geometry says about every pixel, each (size_px, size_px).

    blade, stalk: share of the pixel covered, 0..1. tone: strength of the vein on it, 0..1 (1: the midrib).
    along, across: the pixel's place in the leaf frame.
    """

    blade: np.ndarray
    stalk: np.ndarray
    tone: np.ndarray
    along: np.ndarray
    across: np.ndarray


def photograph(layers: Layers, habit: Habit, rng: np.random.Generator) -> np.ndarray:
    """Take the picture: uint8 (size_px, size_px, 3), sRGB."""
    size_px = len(layers.blade)
    light = rng.uniform(0.0, 2.0 * np.pi)
    scene = _cast_shadow(draw_background(rng, size_px), layers, light, rng)
    scene = mix(scene, _stalk(layers, habit, light), layers.stalk)
    blade = _shade(_pigment(layers, habit, rng), layers, habit, light, rng)
    scene = mix(scene, blade, layers.blade)
    return _expose(scene, light, rng)


def _pigment(layers: Layers, habit: Habit, rng: np.random.Generator) -> np.ndarray:
    """Colour of the blade under even light: chlorophyll in patches, paler veins, a few blemishes."""
    size_px = len(layers.blade)
    lightness, chroma = rng.normal(40.0, 1.3), rng.normal(36.0, 1.2)
    patches = np.clip(0.5 + 0.22 * layered_noise(rng, 4, 4, size_px), 0.0, 1.0)
    green = mix(
        linear(lightness - 3.5, chroma - 2.0, habit.hue_deg + 2.0),
        linear(lightness + 4.0, chroma + 3.0, habit.hue_deg - 2.5),
        patches,
    )
    halo = gaussian_filter(layers.tone, 0.012 * size_px)  # the blade is paler beside its veins
    paler = np.clip(layers.tone + 0.35 * halo, 0.0, 1.0)
    pale = linear(min(lightness + habit.vein_lightness, 90.0), chroma - 6.0, habit.hue_deg - 10.0)
    return _blemish(mix(green, pale, paler), layers, rng)


def _blemish(green: np.ndarray, layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Brown spots with a yellow rim, none or a few."""
    size_px = len(layers.blade)
    ragged = 1.0 + 0.25 * smooth_noise(rng, (40, 40), size_px)
    for _ in range(int(rng.poisson(1.3))):
        x, y = rng.uniform(0.1, 0.9), rng.uniform(-0.25, 0.25)
        radius = rng.uniform(0.006, 0.018)
        distance = np.hypot(layers.along - x, layers.across - y) * ragged / radius
        green = mix(green, linear(62.0, 45.0, 100.0), 0.5 * np.exp(-((distance / 1.6) ** 2)))
        green = mix(green, linear(34.0, 24.0, 62.0), np.clip(1.6 - 1.4 * distance, 0.0, 0.85))
    return green


def _shade(pigment: np.ndarray, layers: Layers, habit: Habit, light: float, rng: np.random.Generator) -> np.ndarray:
    """Light on the blade: it is folded along the midrib, bulges between its veins, and shines a little."""
    size_px = len(layers.blade)
    valley = gaussian_filter(layers.tone, 0.006 * size_px) + gaussian_filter(layers.tone, 0.014 * size_px)
    waves = smooth_noise(rng, (3, 3), size_px)
    height = -0.012 * habit.puckering * valley + 0.012 * waves
    height = height + 0.10 * np.abs(layers.across) * rng.uniform(0.3, 1.2) - 0.25 * layers.across**2
    down, right = (size_px * slope for slope in np.gradient(height))
    facing = -(np.cos(light) * right + np.sin(light) * down)
    diffuse = np.clip(1.0 + 0.9 * facing, 0.35, 1.7)
    aim = rng.uniform(0.05, 0.2)
    glint = np.exp(-((right + aim * np.cos(light)) ** 2 + (down + aim * np.sin(light)) ** 2) / 0.012)
    gloss = rng.uniform(0.02, 0.09)
    return np.asarray(pigment * diffuse[..., None] + gloss * glint[..., None])


def _stalk(layers: Layers, habit: Habit, light: float) -> np.ndarray:
    """Light the petiole: a round stem, a little yellower than the blade."""
    down, right = np.gradient(gaussian_filter(layers.stalk, 0.006 * len(layers.stalk)))
    facing = -(np.cos(light) * right + np.sin(light) * down) * 0.02 * len(layers.stalk)
    return np.asarray(linear(52.0, 36.0, habit.hue_deg - 10.0) * np.clip(1.0 + facing, 0.5, 1.5)[..., None])


def _cast_shadow(scene: np.ndarray, layers: Layers, light: float, rng: np.random.Generator) -> np.ndarray:
    """Darken the ground beside the leaf: a soft shadow away from the light, and a tight one where the two touch."""
    size_px = len(layers.blade)
    solid = np.maximum(layers.blade, layers.stalk)
    reach = rng.uniform(0.006, 0.02) * size_px
    shift = (round(-reach * np.sin(light)), round(-reach * np.cos(light)))
    soft = np.roll(gaussian_filter(solid, 0.8 * reach), shift, axis=(0, 1))
    contact = gaussian_filter(solid, 0.004 * size_px)
    shadow = rng.uniform(0.3, 0.6) * soft + 0.25 * contact
    return np.asarray(scene * (1.0 - np.minimum(shadow, 0.85))[..., None])


def _expose(scene: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    """Uneven lamp, exposure and white balance, a lens slightly out of focus, and a sensor's noise."""
    size_px = len(scene)
    axis = np.linspace(-0.5, 0.5, size_px)
    lamp = 1.0 + rng.uniform(0.0, 0.25) * (np.cos(light) * axis[None, :] + np.sin(light) * axis[:, None])
    gain = rng.uniform(0.9, 1.1) * rng.uniform(0.98, 1.02, 3)
    scene = scene * lamp[..., None] * gain
    scene = gaussian_filter(scene, (*[rng.uniform(0.0012, 0.0026) * size_px] * 2, 0.0))
    picture = 255.0 * np.clip(scene, 0.0, 1.0) ** (1.0 / GAMMA)
    noise = rng.uniform(1.0, 3.0) * rng.standard_normal(scene.shape)  # last: its shape depends on the size
    return np.asarray(np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8))
