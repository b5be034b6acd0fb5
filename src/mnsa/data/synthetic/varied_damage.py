"""What is on a blade beside its veins, for the kind `varied`: lesions, mines, hairs, dust, drops, folds, holes, tears.

None of it is in a vein mask. Light is linear RGB, float32 (S, S, 3); S side of the image in pixels.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mnsa.data.synthetic.photo import blend, lch_to_linear_rgb, smooth_noise
from mnsa.data.synthetic.varied_layers import Layers


def add_damage(
    blade: np.ndarray, layers: Layers, imaging: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Add a random choice of it to a blade. Returns: the blade, and its opacity (S, S), 0 in holes and tears."""
    size_px = len(blade)
    living = imaging in {"upper", "under", "flatbed", "backlit"}
    steps = (
        (_lesions, 0.5 if living else 0.2), (_mines, 0.1), (_folds, 0.15), (_hairs, 0.3 if living else 0.1),
        (_dust, 0.15), (_drops, 0.06 if living else 0.0),
    )  # fmt: skip
    for draw, chance in steps:
        if rng.random() < chance:
            blade = draw(blade, layers, rng)
    opaque = 1.0 - _holes(size_px, rng) if rng.random() < 0.15 else np.ones((size_px, size_px), np.float32)
    return blade.astype(np.float32), opaque


def _blobs(size_px: int, centers: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw irregular round shapes, float32 (S, S) in 0..1."""
    canvas = Image.new("L", (2 * size_px,) * 2)
    draw = ImageDraw.Draw(canvas)
    angle = np.linspace(0.0, 2.0 * np.pi, 14, endpoint=False)
    rough = rng.standard_normal((len(radii), 14))
    rough = rough + np.roll(rough, 1, axis=1) + np.roll(rough, -1, axis=1)
    ragged = radii[:, None] * np.clip(1.0 + rng.uniform(0.03, 0.2) * rough, 0.3, 1.8)
    stretch = np.exp(0.3 * rng.standard_normal((len(radii), 1)))
    x = centers[:, :1] + ragged * stretch * np.cos(angle)
    y = centers[:, 1:] + ragged / stretch * np.sin(angle)
    for outline in (2.0 * np.stack([x, y], axis=-1)).reshape(len(radii), -1).tolist():
        draw.polygon(outline, fill=255)
    return np.asarray(canvas.reduce(2), np.float32) / np.float32(255.0)


def _lesions(blade: np.ndarray, layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Spots: dark, brown, rusty or bleached, from a few large ones to hundreds, often in clusters and with a halo."""
    size_px = len(blade)
    for _ in range(int(rng.integers(1, 3))):
        count = int(np.exp(rng.uniform(np.log(3.0), np.log(400.0))))
        radius = size_px * np.exp(rng.uniform(np.log(0.003), np.log(0.03))) / (1.0 + count / 150.0)
        hubs = rng.uniform(0.0, size_px, (int(rng.integers(1, 8)), 2))
        spread = size_px * rng.uniform(0.05, 0.5)
        centers = hubs[rng.integers(0, len(hubs), count)] + spread * rng.standard_normal((count, 2))
        spots = _blobs(size_px, centers, radius * np.exp(0.5 * rng.standard_normal(count)), rng)
        color = lch_to_linear_rgb(*_spot_color(rng))
        if rng.random() < 0.4:
            halo = np.asarray(
                Image.fromarray((255 * spots).astype(np.uint8)).filter(ImageFilter.GaussianBlur(float(0.5 + radius))),
                np.float32,
            )
            blade = blend(
                blade, lch_to_linear_rgb(72.0, 50.0, 98.0), rng.uniform(0.2, 0.7) * np.minimum(halo / 128.0, 1.0)
            )
        stopped = 1.0 - rng.uniform(0.0, 0.8) * np.maximum(layers.veins[0], layers.veins[1])  # veins are hardier
        uneven = np.clip(0.8 + 0.25 * smooth_noise(rng, (60, 60), size_px), 0.2, 1.0)
        blade = blend(blade, color, rng.uniform(0.5, 1.0) * spots * stopped * uneven)
    return blade


def _spot_color(rng: np.random.Generator) -> tuple[float, float, float]:
    kind = int(rng.choice(4, p=(0.4, 0.2, 0.2, 0.2)))
    return (
        (rng.uniform(12.0, 35.0), rng.uniform(4.0, 25.0), rng.uniform(70.0, 140.0)),
        (rng.uniform(30.0, 50.0), rng.uniform(15.0, 40.0), rng.uniform(50.0, 75.0)),
        (rng.uniform(45.0, 65.0), rng.uniform(40.0, 70.0), rng.uniform(50.0, 80.0)),
        (rng.uniform(65.0, 92.0), rng.uniform(5.0, 25.0), rng.uniform(80.0, 110.0)),
    )[kind]


def _lines(size_px: int, curves: list[np.ndarray], widths: np.ndarray) -> np.ndarray:
    """Draw curves (N, 2) of given widths in pixels, float32 (S, S) in 0..1."""
    scale = 3
    canvas = Image.new("L", (scale * size_px,) * 2)
    draw = ImageDraw.Draw(canvas)
    for curve, width in zip(curves, widths, strict=True):
        draw.line((scale * curve).ravel().tolist(), fill=255, width=max(1, round(scale * float(width))))
    return np.asarray(canvas.reduce(scale), np.float32) / np.float32(255.0)


def _mines(blade: np.ndarray, _layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Trails of leaf miners: they wander, get wider, and respect no vein."""
    size_px, curves, widths = len(blade), [], []
    for _ in range(int(rng.integers(1, 4))):
        steps = int(rng.integers(40, 160))
        turn = np.cumsum(rng.normal(0.0, 0.35, steps)) + rng.uniform(0.0, 6.3)
        stride = size_px * rng.uniform(0.004, 0.012)
        curve = rng.uniform(0.1, 0.9, 2) * size_px + np.cumsum(
            stride * np.stack([np.cos(turn), np.sin(turn)], 1), axis=0
        )
        wide = rng.uniform(1.5, 6.0) * size_px / 384.0
        for n in range(0, steps - 10, 10):
            curves.append(curve[n : n + 11])
            widths.append(wide * (0.3 + 0.7 * n / steps))
    trail = _lines(size_px, curves, np.array(widths))
    color = lch_to_linear_rgb(rng.uniform(55.0, 90.0), rng.uniform(5.0, 30.0), rng.uniform(80.0, 115.0))
    return blend(blade, color, rng.uniform(0.3, 0.85) * trail)


def _folds(blade: np.ndarray, _layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Creases: the light changes at a nearly straight line, which itself is lighter or darker."""
    size_px = len(blade)
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32)
    bend = 0.02 * size_px * smooth_noise(rng, (3, 3), size_px)
    for _ in range(int(rng.integers(1, 3))):
        turn, center = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.2, 0.8, 2) * size_px
        away = np.cos(turn) * (x - center[0]) + np.sin(turn) * (y - center[1]) + bend
        side = np.exp(-np.maximum(away, 0.0) / (size_px * rng.uniform(0.02, 0.2))) * (away > 0.0)
        crease = np.exp(-((away / rng.uniform(0.7, 1.8)) ** 2))
        blade = blade * (1.0 + rng.normal(0.0, 0.15) * side + rng.normal(0.0, 0.25) * crease)[..., None]
    return blade


def _hairs(blade: np.ndarray, layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Short bright hairs, on the veins or everywhere."""
    size_px = len(blade)
    count = int(np.exp(rng.uniform(np.log(20.0), np.log(350.0))))
    where = np.argwhere(layers.veins[0] + layers.veins[1] > 0.4)
    if len(where) > 50 and rng.random() < 0.7:
        roots = where[rng.integers(0, len(where), count)][:, ::-1].astype(np.float64)
    else:
        roots = rng.uniform(0.0, size_px, (count, 2))
    length = size_px * np.exp(rng.uniform(np.log(0.006), np.log(0.04)))
    turn = rng.uniform(0.0, 2.0 * np.pi) + rng.uniform(0.3, 3.0) * rng.standard_normal(count)
    t = np.linspace(0.0, 1.0, 5)[None, :] * length * rng.uniform(0.4, 1.2, (count, 1))
    turn = turn[:, None] + rng.uniform(-1.0, 1.0, (count, 1)) * t / length
    curves = roots[:, None] + np.stack([t * np.cos(turn), t * np.sin(turn)], axis=-1)
    hair = _lines(size_px, list(curves), np.full(count, rng.uniform(0.3, 0.8)))
    return blend(blade, lch_to_linear_rgb(rng.uniform(70.0, 95.0), 6.0, 110.0), rng.uniform(0.15, 0.7) * hair)


def _dust(blade: np.ndarray, _layers: Layers, rng: np.random.Generator) -> np.ndarray:
    size_px = len(blade)
    count = int(rng.integers(10, 500))
    specks = _blobs(size_px, rng.uniform(0.0, size_px, (count, 2)), rng.uniform(0.3, 1.5, count), rng)
    return blend(blade, lch_to_linear_rgb(rng.choice([12.0, 85.0, 95.0]), 4.0, 80.0), rng.uniform(0.3, 0.9) * specks)


def _drops(blade: np.ndarray, _layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Water drops: darker at one edge, brighter at the other, with a highlight."""
    size_px = len(blade)
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32)
    for _ in range(int(rng.integers(2, 16))):
        center, radius = rng.uniform(0.0, size_px, 2), size_px * rng.uniform(0.01, 0.05)
        u, v = (x - center[0]) / radius, (y - center[1]) / radius
        inside = np.clip((1.0 - np.hypot(u, v)) * radius, 0.0, 1.0)
        blade = blade * (1.0 + inside * 0.45 * (u + v))[..., None]
        blade = blend(blade, np.ones(3, np.float32), inside * np.exp(-((u + 0.4) ** 2 + (v + 0.4) ** 2) / 0.02))
    return blade


def _holes(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Holes of insects, and tears: narrow wedges."""
    count = int(rng.integers(1, 14))
    holes = _blobs(size_px, rng.uniform(0.0, size_px, (count, 2)), size_px * rng.uniform(0.004, 0.035, count), rng)
    if rng.random() < 0.4:
        start, turn = rng.uniform(0.0, size_px, 2), rng.uniform(0.0, 6.3) + np.cumsum(rng.normal(0.0, 0.25, 20))
        tear = start + np.cumsum(size_px * 0.02 * np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0)
        cracks = [tear[n : n + 2] for n in range(19)]
        holes = np.maximum(holes, _lines(size_px, cracks, np.linspace(4.0, 0.6, 19) * size_px / 384.0))
    return holes
