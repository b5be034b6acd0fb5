"""Rays from points inside a mask to its boundary, to a fraction of a pixel."""

import numpy as np
from scipy.ndimage import map_coordinates

_STEP_PX = 0.5


def distance_to_edge(mask: np.ndarray, origin: np.ndarray, direction: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """How far each ray runs until it leaves the mask, at most `limit`: (N,), in pixels; 0 from outside.

    mask: bool (H, W); it ends where its bilinear interpolation falls below one half. origin: (N, 2) row, column;
    direction: (N, 2) unit vectors; limit: (N,).
    """
    pixels = mask.view(np.uint8)
    distance = np.zeros(len(origin))
    before = _at(pixels, origin)
    running = np.flatnonzero(before >= 0.5)
    for count in range(1, 1 + int(np.ceil(limit.max(initial=0.0) / _STEP_PX))):
        if not len(running):
            break
        travelled = count * _STEP_PX
        here = _at(pixels, origin[running] + travelled * direction[running])
        is_out = here < 0.5
        beyond = np.where(is_out, (0.5 - here) / np.where(is_out, before[running] - here, 1.0), 0.0)
        distance[running] = np.minimum(travelled - _STEP_PX * beyond, limit[running])
        before[running] = here
        running = running[~is_out & (travelled < limit[running])]
    return distance


def _at(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear interpolation, (N,) in 0..1; 0 outside the image."""
    return np.asarray(map_coordinates(pixels, points.T, output=np.float64, order=1, mode="constant"))
