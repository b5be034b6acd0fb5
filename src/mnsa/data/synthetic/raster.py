"""From geometry to pixels: anti-aliased polygons and veins, by distance and not by a drawing library's rules."""

import numpy as np
from PIL import Image, ImageDraw

from mnsa.data.synthetic.network import Pieces

SUPERSAMPLING = 8
EDGE_PX = 0.5  # half of the soft edge of a drawn vein


def fill_polygon(polygon: np.ndarray, size_px: int) -> np.ndarray:
    """Share of every pixel that the polygon covers, (size_px, size_px) in 0..1. polygon: (N, 2), in pixels."""
    canvas = Image.new("L", (size_px * SUPERSAMPLING,) * 2)
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in (polygon * SUPERSAMPLING - 0.5).tolist()], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float64) / 255.0


def vein_depth(pieces: Pieces, size_px: int) -> np.ndarray:
    """How deep inside the nearest vein each pixel's centre lies, in pixels, (size_px, size_px); negative outside.

    Cut off at -EDGE_PX, where a vein covers nothing of the pixel any more. pieces: in pixels.
    """
    half = int(np.ceil(pieces.radius.max() + EDGE_PX + pieces.length.max() / 2.0))
    window = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 2)).reshape(2, 1, -1)
    middle = 0.5 * (pieces.start + pieces.end)
    columns, rows = np.floor(middle).T.astype(np.intp)[:, :, None] + window  # (N, window) each
    depth = pieces.radius[:, None] - _distance(columns + 0.5, rows + 0.5, pieces)
    near = (depth > -EDGE_PX) & (columns >= 0) & (columns < size_px) & (rows >= 0) & (rows < size_px)
    deepest = np.full(size_px * size_px, -EDGE_PX)
    np.maximum.at(deepest, (rows * size_px + columns)[near], depth[near])
    return deepest.reshape(size_px, size_px)


def _distance(x: np.ndarray, y: np.ndarray, pieces: Pieces) -> np.ndarray:
    """Distance from the points x, y, (N, W) each, to the piece of the same row, (N, W)."""
    start_x, start_y = pieces.start.T[:, :, None]
    step_x, step_y = (pieces.end - pieces.start).T[:, :, None]
    x, y = x - start_x, y - start_y
    share = (x * step_x + y * step_y) / np.maximum(step_x**2 + step_y**2, 1e-12)
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(np.sqrt((x - share * step_x) ** 2 + (y - share * step_y) ** 2))
