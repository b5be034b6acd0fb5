"""Seeds of the Voronoi cells that become areoles: along the major veins, along the margin, and in between.

Leaf frame throughout.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mnsa.data.synthetic.outline import Outline
from mnsa.data.synthetic.venation import Vein

INNER, RING = -1, -2  # owner of a scattered seed and of one along the margin; a paired seed is owned by its vein
RING_SHARE = 1.02  # the ring runs just outside the margin, so that the marginal loops close just inside


class Seeds(NamedTuple):
    """Voronoi seeds: points (N, 2); owner (N,) vein index, INNER or RING; flank (N,) +1 or -1, its side of the vein."""

    points: np.ndarray
    owner: np.ndarray
    flank: np.ndarray


def sow(major: list[Vein], outline: Outline, cell: float, rng: np.random.Generator) -> Seeds:
    """Place seeds about `cell` apart: first along the veins, then along the margin, then wherever there is room."""
    paired = _paired(major, outline, cell, rng)
    ring = _ring(outline, cell, rng)
    ring = ring[cKDTree(paired.points).query(ring)[0] > 0.4 * cell]
    inner = _scattered(outline, cell, rng)
    inner = inner[cKDTree(np.concatenate([paired.points, ring])).query(inner)[0] > 0.72 * cell]
    lone = np.concatenate([np.full(len(ring), RING), np.full(len(inner), INNER)])
    return Seeds(
        np.concatenate([paired.points, ring, inner]),
        np.concatenate([paired.owner, lone]),
        np.concatenate([paired.flank, np.zeros(len(lone), dtype=np.intp)]),
    )


def share_of_blade(points: np.ndarray, outline: Outline) -> np.ndarray:
    """How far out each point lies: 0 on the midrib, 1 on the margin, more outside."""
    x, y = points.T
    inside = (x > 0.0) & (x < 1.0)
    return np.where(inside, np.abs(y) / np.maximum(outline.margin(x, np.sign(y)), 1e-9), np.inf)


def _paired(major: list[Vein], outline: Outline, cell: float, rng: np.random.Generator) -> Seeds:
    """Mirrored pairs along every major vein, but not where another vein is nearer."""
    walks = [_walk(vein.points, 0.9 * cell, 0.15 * cell, rng) for vein in major]
    middle = np.concatenate([points for points, _ in walks])
    tangent = np.concatenate([directions for _, directions in walks])
    owner = np.repeat(np.arange(len(major)), [len(points) for points, _ in walks])
    offset = 0.42 * cell * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)

    veins = cKDTree(np.concatenate([vein.points for vein in major]))
    vein_of = np.repeat(np.arange(len(major)), [len(vein.points) for vein in major])
    fits = np.ones(len(owner), dtype=bool)
    for seeds in (middle + offset, middle - offset):
        fits &= (vein_of[veins.query(seeds)[1]] == owner) & (share_of_blade(seeds, outline) < 0.94)
    flank = np.repeat(np.array([1, -1]), fits.sum())
    return Seeds(np.concatenate([(middle + offset)[fits], (middle - offset)[fits]]), np.tile(owner[fits], 2), flank)


def _ring(outline: Outline, cell: float, rng: np.random.Generator) -> np.ndarray:
    around = outline.polygon() * np.array([1.0, RING_SHARE])
    return _walk(around, 0.9 * cell, 0.2 * cell, rng)[0]


def _scattered(outline: Outline, cell: float, rng: np.random.Generator) -> np.ndarray:
    """Points of a jittered triangular lattice that lie well inside the blade."""
    column, row = np.meshgrid(np.arange(int(1.2 / cell)), np.arange(int(1.3 / cell)))
    lattice = np.stack([column + 0.5 * (row % 2), np.sqrt(0.75) * row], axis=-1).reshape(-1, 2)
    points = cell * (lattice + 0.24 * rng.standard_normal(lattice.shape)) - np.array([0.0, 0.55])
    return np.asarray(points[share_of_blade(points, outline) < 0.93])


def _walk(curve: np.ndarray, stride: float, jitter: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) about every `stride` along a curve, and the curve's unit tangents (N, 2) there."""
    legs = np.diff(curve, axis=0)
    lengths = np.hypot(*legs.T)
    travelled = np.concatenate([[0.0], np.cumsum(lengths)])
    stops = np.arange(rng.uniform(0.2, 0.8) * stride, travelled[-1], stride)
    stops = np.clip(stops + jitter * rng.uniform(-1.0, 1.0, len(stops)), 0.0, travelled[-1])
    points = np.stack([np.interp(stops, travelled, coordinate) for coordinate in curve.T], axis=1)
    leg = np.clip(np.searchsorted(travelled, stops, side="right") - 1, 0, len(legs) - 1)
    return points, (legs / lengths[:, None])[leg]
