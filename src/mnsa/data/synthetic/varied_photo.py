"""Render images of the kind `varied`: pigment, relief, damage, background, light and camera.

Light is linear RGB, float32 (S, S, 3); S side of the image in pixels. `Appearance` is how a leaf was photographed.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from mnsa.data.synthetic.photo import GAMMA, blend, layered_noise, lch_to_linear_rgb, smooth_noise
from mnsa.data.synthetic.varied_backgrounds import draw_background
from mnsa.data.synthetic.varied_damage import add_damage
from mnsa.data.synthetic.varied_layers import FINEST_SPACING_PX, Layers

# How likely each way of imaging is, and the backgrounds that go with it
IMAGING = {
    "upper": 0.26,
    "under": 0.28,
    "backlit": 0.1,
    "transmission": 0.12,
    "cleared": 0.08,
    "flatbed": 0.1,
    "dry": 0.06,
}

BRIGHT = ("white", "paper", "grid")

BACKGROUNDS = {
    "upper": ("white", "paper", "cloth", "soil", "skin", "grid", "green", "board"),
    "under": ("white", "paper", "cloth", "cloth", "soil", "skin", "grid", "green", "board"),
    "backlit": ("lamp", "lamp", "green", "cloth"),
    "transmission": ("lamp", "cloth", "gray"),
    "cleared": ("lamp", "lamp", "white", "gray"),
    "flatbed": ("white", "white", "gray", "cloth", "grid"),
    "dry": ("paper", "paper", "white", "gray"),
}

ORDERS = (1, 2, 3, 4)

# What an order of veins needs to be in a mask: width and distance in pixels, and how far it stands out
NARROWEST_PX, CLOSEST_PX = {1: 0.0, 2: 0.4, 3: 0.8, 4: 1.0}, {1: 0.0, 2: 4.0, 3: 9.0, 4: 14.0}

STANDS_OUT = {1: 0.2, 2: 0.35, 3: 0.8, 4: 1.2}

FEW_PIXELS = 30  # of an order; too few to measure how far it stands out


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a leaf looks and is photographed. contrasts: L* of the veins of order 1 to 4 minus that of the blade."""

    imaging: str
    background: str
    lightness: float
    chroma: float
    hue: float
    contrasts: tuple[float, ...]
    vein_chroma: float
    vein_hue: float
    relief: float  # strength of shading at veins; negative: sunken
    puckering: float  # bulging of the blade between veins
    texture: float  # of the blade, relative
    texture_px: float
    gloss: float
    core: float  # strength of lines of another lightness in the middle of veins and along them
    blur_px: float
    noise: float  # gray values of 255
    gray: bool


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Sample how the leaves of an image look."""
    imaging = str(rng.choice(list(IMAGING), p=list(IMAGING.values())))
    background = str(rng.choice(BACKGROUNDS[imaging]))
    lightness, chroma, hue = {
        "upper": (rng.uniform(24.0, 58.0), rng.uniform(14.0, 48.0), rng.uniform(106.0, 140.0)),
        "under": (rng.uniform(42.0, 74.0), rng.uniform(10.0, 50.0), rng.uniform(104.0, 135.0)),
        "backlit": (rng.uniform(45.0, 85.0), rng.uniform(40.0, 85.0), rng.uniform(98.0, 125.0)),
        "transmission": (rng.uniform(25.0, 78.0), rng.uniform(0.0, 12.0), rng.uniform(90.0, 140.0)),
        "cleared": (rng.uniform(60.0, 92.0), rng.uniform(0.0, 14.0), rng.choice([20.0, 70.0, 90.0, 330.0])),
        "flatbed": (rng.uniform(30.0, 65.0), rng.uniform(12.0, 45.0), rng.uniform(104.0, 138.0)),
        "dry": (rng.uniform(28.0, 65.0), rng.uniform(8.0, 30.0), rng.uniform(68.0, 108.0)),
    }[imaging]
    if imaging in {"upper", "under", "flatbed", "backlit"} and rng.random() < 0.12:  # autumn and red leaves
        hue, chroma = rng.choice([rng.uniform(20.0, 60.0), rng.uniform(75.0, 100.0)]), rng.uniform(20.0, 60.0)
    lighter = {"upper": 0.85, "under": 0.6, "backlit": 0.45, "transmission": 0.5, "cleared": 0.04, "flatbed": 0.7}
    sign = 1.0 if rng.random() < lighter.get(imaging, 0.4) else -1.0
    strong = {"cleared": 30.0, "backlit": 24.0, "transmission": 22.0}.get(imaging, 17.0)
    first = sign * (3.0 + strong * rng.beta(1.4, 2.0))
    contrasts, last = [first], first
    for _ in range(3):
        last *= rng.uniform(0.4, 1.1)
        if rng.random() < 0.17:
            last = -last
        contrasts.append(last)
    flat = imaging in {"backlit", "transmission", "cleared", "flatbed"}
    relief = 0.0 if flat and rng.random() < 0.7 else rng.gamma(1.8, 0.65)
    if imaging == "upper" and rng.random() < 0.8:
        relief = -relief
    gray = {"transmission": 0.8, "cleared": 0.6}.get(imaging, 0.04)
    shift = rng.normal(0.0, 5.0)
    return Appearance(
        imaging=imaging,
        background=background,
        lightness=lightness,
        chroma=chroma,
        hue=hue,
        contrasts=tuple(contrasts),
        vein_chroma=max(chroma + rng.normal(-3.0, 6.0), 0.0),
        vein_hue=hue - abs(shift) if sign > 0 else hue + shift,
        relief=relief,
        puckering=rng.gamma(1.2, 0.5) * (0.2 if flat else 1.0),
        texture=min(rng.gamma(1.8, 0.026), 0.03 + 0.008 * abs(first)),
        texture_px=float(np.exp(rng.uniform(np.log(0.6), np.log(3.5)))),
        gloss=0.0 if flat else rng.choice([0.0, rng.gamma(1.0, 0.08)]),
        core=rng.choice([0.0, rng.normal(0.0, 1.0)]),
        blur_px=0.25 + rng.gamma(1.2, 0.3),
        noise=min(rng.gamma(1.2, 2.0), 1.0 + 0.8 * abs(first)),
        gray=bool(rng.random() < gray),
    )


def visible_orders(image: np.ndarray, layers: Layers) -> tuple[int, ...]:
    """The orders of veins that a person would draw: wide and apart enough, and visible in the finished image.

    How far an order stands out is the larger of two measures, both in units of the spread of the blade without veins.
    In fine detail of lightness: the difference of the medians, plus how much larger the spread is, as veins that are
    lit from one side have light and dark pixels. In slope: half the difference of the medians, as a ridge or furrow has
    a light and a dark side. If an order is not visible, no finer order is in the mask.
    """
    gray = image @ np.array([0.3, 0.59, 0.11], np.float32)
    detail = gaussian_filter(gray, 0.6, truncate=2.5) - gaussian_filter(gray, 4.0, truncate=2.5)
    slope = gaussian_gradient_magnitude(gray, 1.5, truncate=2.5)
    blade, visible = layers.blade > 0.99, []
    free = blade & (layers.orders == 0)
    (low, middle, high), (gentle, usual, steep) = _quantiles(detail[free]), _quantiles(slope[free])
    spread, slope_spread = max(0.5 * (high - low), 0.8), max(0.5 * (steep - gentle), 0.3)
    for order in ORDERS:
        if layers.widths_px[order - 1] < NARROWEST_PX[order] or layers.gaps_px[order - 1] < CLOSEST_PX[order]:
            break
        inside = blade & (layers.orders == order)
        if inside.sum() >= FEW_PIXELS:
            own_low, own_middle, own_high = _quantiles(detail[inside])
            wider = max(0.5 * (own_high - own_low) / spread - 1.0, 0.0)
            steeper = 0.5 * (_quantiles(slope[inside])[1] - usual) / slope_spread
            if max(abs(own_middle - middle) / spread + wider, steeper) < STANDS_OUT[order]:
                break
        visible.append(order)
    return tuple(visible)


def _quantiles(values: np.ndarray) -> tuple[float, float, float]:
    """Of a sample of the values: median, and one standard deviation below and above if they are normal."""
    if not len(values):
        return 0.0, 0.0, 0.0
    low, middle, high = np.quantile(values[:: max(1, len(values) // 4000)], (0.16, 0.5, 0.84))
    return float(low), float(middle), float(high)


def render(
    layers: Layers, appearance: Appearance, px_per_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Render an image: uint8 (S, S, 3), sRGB. Returns also where something was cut out of the blade, bool (S, S)."""
    size_px = len(layers.blade)
    light = rng.uniform(0.0, 2.0 * np.pi)
    blade = _pigment(layers, appearance, rng)
    diffuse, gloss = _shade(layers, appearance, light, rng)
    blade, opaque = add_damage(blade, layers, appearance.imaging, rng)
    blade = blade * diffuse[..., None] + gloss[..., None]
    scene = draw_background(appearance.background, size_px, px_per_mm, rng)
    if appearance.imaging in {"upper", "under", "dry", "flatbed"}:
        scene = _cast_shadow(scene, layers, light, rng)
    stem_color = lch_to_linear_rgb(
        float(np.clip(appearance.lightness + appearance.contrasts[0], 5.0, 95.0)),
        appearance.vein_chroma,
        appearance.vein_hue,
    ).astype(np.float32)
    scene = blend(scene, stem_color * diffuse[..., None], layers.stem * (1.0 - layers.blade))
    scene = blend(scene, blade, layers.blade * opaque)
    return _expose(scene, appearance, light, rng), opaque < 0.5


def _lch(lightness: float, chroma: float, hue: float) -> np.ndarray:
    return lch_to_linear_rgb(float(np.clip(lightness, 3.0, 97.0)), max(chroma, 0.0), hue).astype(np.float32)


def _pigment(layers: Layers, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Color of the blade in even light: patches, texture, veins, and what is paler or darker beside them."""
    size_px = len(layers.blade)
    spread = 0.5 + rng.gamma(1.5, 1.2)
    patches = np.clip(0.5 + 0.25 * _noise(rng, int(rng.integers(2, 7)), int(rng.integers(2, 5)), size_px), 0.0, 1.0)
    green = blend(
        _lch(appearance.lightness - spread, appearance.chroma - 2.0, appearance.hue + 3.0),
        _lch(appearance.lightness + spread, appearance.chroma + 2.0, appearance.hue - 3.0),
        patches,
    )
    green = green * (1.0 + rng.uniform(0.08, 0.35) * (layers.tone - 0.5))[..., None]
    uneven = np.clip(1.0 + 0.35 * _noise(rng, 5, 2, size_px), 0.25, 1.6)  # veins fade in places
    if rng.random() < 0.5:  # and glitter
        speck = gaussian_filter(rng.standard_normal((size_px, size_px), dtype=np.float32), 0.8, truncate=2.0)
        uneven = np.clip(uneven * (1.0 + rng.uniform(0.3, 1.5) * speck), 0.0, 2.0)
    for order, contrast in reversed(list(zip(ORDERS, appearance.contrasts, strict=True))):
        cover = layers.veins[order - 1]
        if order >= 3 and abs(contrast) < 0.8:
            continue
        color = _lch(appearance.lightness + contrast, appearance.vein_chroma, appearance.vein_hue)
        fading = uneven if order > 1 else 0.7 + 0.3 * uneven
        green = blend(green, color, np.clip(cover * fading, 0.0, 1.5))
        if order <= 3 and appearance.core:
            green = green * np.clip(1.0 + appearance.core * _core(cover), 0.4, 1.8)[..., None]
    if layers.gaps_px[3] < FINEST_SPACING_PX:  # a net that is too fine to draw: zero lines of smooth noise look alike
        cells = int(size_px / max(1.6 * layers.gaps_px[3], 2.5))
        net = 1.0 - np.minimum(np.abs(smooth_noise(rng, (cells, cells), size_px)) / 0.35, 1.0)
        green = green * (1.0 + np.clip(appearance.contrasts[3], -8.0, 8.0) * rng.uniform(0.0, 0.02) * net)[..., None]
    halo = rng.normal(0.0, 0.22)
    if abs(halo) > 0.1:  # the blade beside its veins: paler, or darker
        near = gaussian_filter(layers.veins[0] + layers.veins[1], rng.uniform(1.5, 7.0), truncate=2.5)
        green = green * (1.0 + halo * np.minimum(2.0 * near, 1.0) * (1.0 - layers.veins[0]))[..., None]
    grain = gaussian_filter(
        rng.standard_normal((size_px, size_px), dtype=np.float32), appearance.texture_px, truncate=2.0
    )
    grain = grain * np.float32(3.5 * appearance.texture_px * appearance.texture)
    if rng.random() < 0.5:  # mesophyll: cells of a size that is not that of the grain
        cells = int(size_px / rng.uniform(3.0, 14.0))
        grain = grain + np.float32(rng.uniform(0.3, 1.5) * appearance.texture) * smooth_noise(
            rng, (cells, cells), size_px
        )
    return np.asarray(np.maximum(green * (1.0 + grain)[..., None], 0.002), dtype=np.float32)


def _core(cover: np.ndarray) -> np.ndarray:
    """Above 0 in the middle of thin veins, below 0 along them: many veins look like lines of light and dark."""
    return np.asarray(gaussian_filter(cover, 0.7, truncate=2.5) - gaussian_filter(cover, 2.0, truncate=2.5))


def _shade(
    layers: Layers, appearance: Appearance, light: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shading and gloss, (S, S) each: veins are ridges or furrows, the blade bulges between them and is wavy."""
    size_px = len(layers.blade)
    first, second, third, _ = layers.veins
    height = rng.gamma(1.5, 1.3) * _noise(rng, 2, 2, size_px) * size_px / 384.0
    width = max(layers.widths_px[0] * 0.35, 0.8)
    if appearance.relief:
        ridge = 1.3 * width * gaussian_filter(first, width, truncate=2.5)
        for cover, px, share in ((second, layers.widths_px[1], 1.6), (third, layers.widths_px[2], 1.3)):
            sigma = max(0.45 * px, 0.7)
            ridge += share * sigma * gaussian_filter(cover, sigma, truncate=2.5)
        height = height + np.float32(appearance.relief) * ridge
    if appearance.puckering > 0.15:
        sigma = float(np.clip(3.0 * layers.widths_px[1], 2.0, 14.0))
        valley = gaussian_filter(first + second + 0.5 * third, sigma, truncate=2.0)
        height = height + np.float32(appearance.puckering * np.sign(appearance.relief or 1.0) * 1.5 * sigma) * valley
    if layers.tone.max() > layers.tone.min():
        height = height + 2.0 * layers.tone
    down, right = np.gradient(height.astype(np.float32))
    facing = -(np.float32(np.cos(light)) * right + np.float32(np.sin(light)) * down)
    strength = {"backlit": 0.15, "transmission": 0.1, "cleared": 0.05, "flatbed": 0.35}.get(appearance.imaging, 0.7)
    diffuse = np.clip(1.0 + strength * facing / (1.0 + np.abs(facing)), 0.3, 1.8)
    if appearance.gloss < 0.01:
        return diffuse, np.zeros_like(diffuse)
    tilt = rng.uniform(0.0, 0.4)
    shine = np.exp(
        -((right + tilt * np.cos(light)) ** 2 + (down + tilt * np.sin(light)) ** 2) / rng.uniform(0.01, 0.12)
    )
    patch = np.clip(0.3 + 0.8 * _noise(rng, 3, 2, size_px), 0.0, 1.5)
    return diffuse, np.asarray(min(appearance.gloss, 0.5) * shine * patch, dtype=np.float32)


def _noise(rng: np.random.Generator, coarsest: int, octaves: int, size_px: int) -> np.ndarray:
    return layered_noise(rng, coarsest, octaves, size_px).astype(np.float32)


def _cast_shadow(scene: np.ndarray, layers: Layers, light: float, rng: np.random.Generator) -> np.ndarray:
    size_px = len(scene)
    reach = rng.uniform(0.0, 0.025) * size_px
    shift = (round(-reach * np.sin(light)), round(-reach * np.cos(light)))
    solid = Image.fromarray((255.0 * np.maximum(layers.blade, layers.stem)).astype(np.uint8))
    soft = np.asarray(solid.filter(ImageFilter.GaussianBlur(1.0 + 0.7 * reach)), np.float32) / 255.0
    return np.asarray(scene * (1.0 - rng.uniform(0.0, 0.6) * np.roll(soft, shift, axis=(0, 1)))[..., None])


def _expose(scene: np.ndarray, appearance: Appearance, light: float, rng: np.random.Generator) -> np.ndarray:
    """Uneven light, shadows, exposure, white balance, blur, noise, JPEG."""
    size_px = len(scene)
    axis = np.linspace(-0.5, 0.5, size_px, dtype=np.float32)
    lamp = 1.0 + rng.uniform(0.0, 0.5) * (np.cos(light) * axis[None, :] + np.sin(light) * axis[:, None])
    if rng.random() < 0.3:
        lamp = lamp * (1.0 - rng.uniform(0.0, 1.2) * (axis[None, :] ** 2 + axis[:, None] ** 2))
    if appearance.imaging in {"upper", "under"} and rng.random() < 0.2:
        lamp = lamp * _shadow(size_px, rng)
    gain = np.exp(rng.normal(0.0, 0.22)) * np.exp(rng.normal(0.0, 0.06, 3))
    scene = np.maximum(scene * (lamp[..., None] * gain).astype(np.float32), 0.0).astype(np.float32)
    sigma = appearance.blur_px
    scene = gaussian_filter(scene, (sigma, sigma, 0.0), truncate=2.5)
    pixels = 255.0 * _GAMMA_TABLE[np.minimum(scene * 4096.0, 4095.0).astype(np.uint16)]
    if appearance.gray:
        gray = pixels @ np.array([0.3, 0.59, 0.11], np.float32)
        pixels = gray[..., None] * np.exp(rng.normal(0.0, 0.02, 3)).astype(np.float32)
    if rng.random() < 0.3:  # contrast and black level of a camera's own processing
        pixels = (pixels - 128.0) * rng.uniform(0.7, 1.25) + 128.0 + rng.uniform(-15.0, 15.0)
    if rng.random() < 0.35:  # cameras sharpen
        soft = gaussian_filter(pixels, (1.0, 1.0, 0.0), truncate=2.0)
        pixels = pixels + np.float32(rng.uniform(0.3, 1.3)) * (pixels - soft)
    noise = rng.standard_normal((size_px, size_px), dtype=np.float32)[..., None]
    if not appearance.gray and rng.random() < 0.5:
        noise = rng.standard_normal((size_px, size_px, 3), dtype=np.float32)
    if rng.random() < 0.3:  # an image that was enlarged has coarse noise
        noise = 2.0 * gaussian_filter(noise, (0.9, 0.9, 0.0), truncate=2.0)
    pixels = np.clip(pixels + np.float32(appearance.noise) * noise + 0.5, 0.0, 255.0).astype(np.uint8)
    if rng.random() < 0.7:
        return _as_jpeg(pixels, int(rng.integers(35, 96)))
    return pixels


def _shadow(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Shadows of other things: a soft or sharp edge across the image, or stripes."""
    canvas = Image.new("L", (size_px, size_px), 255)
    draw = ImageDraw.Draw(canvas)
    dark = int(rng.integers(90, 210))
    for _ in range(int(rng.integers(1, 5))):
        center, turn = rng.uniform(0.0, size_px, 2), rng.uniform(0.0, np.pi)
        along = np.array([np.cos(turn), np.sin(turn)]) * 2.0 * size_px
        across = np.array([-np.sin(turn), np.cos(turn)]) * rng.uniform(0.02, 0.3) * size_px
        corners = [center + along + across, center + along - across, center - along - across, center - along + across]
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=dark)
    soft = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 14.0)))
    return np.asarray(soft, np.float32) / np.float32(255.0)


def _as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data).convert("RGB"))


_GAMMA_TABLE = (np.arange(4096, dtype=np.float32) / np.float32(4095.0)) ** np.float32(1.0 / GAMMA)
