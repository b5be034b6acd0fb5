"""Draw the minor veins, and join all veins of a leaf to one list of short straight segments.

The minor veins are the walls of Voronoi cells, so veins enclose every areole. The seeds are placed in pairs along the
major veins, along the margin, and in between. The wall between a pair of seeds lies on their major vein and is left
out. The inner walls of the seeds along the margin are the marginal loops.
The area between two secondary veins (intercostal field) is divided into bands, numbered from the midrib to the margin.
Walls between two bands are tertiary veins, as the rungs of a ladder; all others are quaternary veins.
Coordinates are in the leaf frame of `leaf_shape`. spacing: mean distance of seeds, which is the width of an areole.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import Voronoi, cKDTree

from mnsa.data.synthetic.leaf_shape import LeafOutline
from mnsa.data.synthetic.major_veins import SecondaryVeins, Vein

INNER_SEED = -1  # owner of a seed between the veins

MARGIN_SEED = -2  # owner of a seed along the margin

MARGIN_RING_SCALE = 1.02  # the seeds are just outside of the margin, so that the marginal loops are just inside

RUNG_SPACING = 1.7  # distance between tertiary veins, in areoles

FREE_ENDING_FRACTION = 0.10  # fraction of the quaternary veins that end freely inside an areole

TERTIARY_RADIUS, QUATERNARY_RADIUS = 0.0017, 0.0012

MAX_SEGMENT_LENGTH = 1.0 / 128.0  # in leaf lengths


class Seeds(NamedTuple):
    """Voronoi seeds.

    points: (N, 2). owner: (N,) vein index, INNER_SEED or MARGIN_SEED. flank: (N,) side of the vein, +1 or -1.
    """

    points: np.ndarray
    owner: np.ndarray
    flank: np.ndarray


def place_seeds(major: list[Vein], outline: LeafOutline, spacing: float, rng: np.random.Generator) -> Seeds:
    """Place seeds about `spacing` apart: along the veins, then along the margin, then in the remaining area."""
    paired = _seeds_along_veins(major, outline, spacing, rng)
    ring = _seeds_along_margin(outline, spacing, rng)
    ring = ring[cKDTree(paired.points).query(ring)[0] > 0.4 * spacing]
    inner = _seeds_in_between(outline, spacing, rng)
    inner = inner[cKDTree(np.concatenate([paired.points, ring])).query(inner)[0] > 0.72 * spacing]
    lone = np.concatenate([np.full(len(ring), MARGIN_SEED), np.full(len(inner), INNER_SEED)])
    return Seeds(
        np.concatenate([paired.points, ring, inner]),
        np.concatenate([paired.owner, lone]),
        np.concatenate([paired.flank, np.zeros(len(lone), dtype=np.intp)]),
    )


def margin_fraction(points: np.ndarray, outline: LeafOutline) -> np.ndarray:
    """Compute the position of points (N, 2) across the blade, (N,): 0 on the midrib, 1 on the margin, more outside."""
    x, y = points.T
    inside = (x > 0.0) & (x < 1.0)
    return np.where(inside, np.abs(y) / np.maximum(outline.margin(x, np.sign(y)), 1e-9), np.inf)


class MinorVeins(NamedTuple):
    """Straight segments of minor veins. start, end: (N, 2). order: (N,) 3 or 4."""

    start: np.ndarray
    end: np.ndarray
    order: np.ndarray


def draw_minor_veins(
    major: list[Vein],
    sides: tuple[SecondaryVeins, SecondaryVeins],
    outline: LeafOutline,
    spacing: float,
    rng: np.random.Generator,
) -> MinorVeins:
    """Draw the minor veins between the major veins, with areoles about `spacing` wide."""
    seeds = place_seeds(major, outline, spacing, rng)
    diagram = Voronoi(seeds.points)
    ends = np.asarray(diagram.ridge_vertices, dtype=np.intp)  # (N, 2); -1 stands for infinity
    first, second = diagram.ridge_points.T
    is_vein = (ends >= 0).all(axis=1) & ~_on_major_vein(seeds, first, second) & ~_across_margin(seeds, first, second)
    ends, first, second = ends[is_vein], first[is_vein], second[is_vein]

    band = _number_bands(seeds, sides, outline, RUNG_SPACING * spacing, rng)
    order = np.where(band[first] != band[second], 3, 4)
    start, end = diagram.vertices[ends[:, 0]], diagram.vertices[ends[:, 1]]
    is_free = (order == 4) & (rng.random(len(order)) < FREE_ENDING_FRACTION)
    return MinorVeins(start, np.where(is_free[:, None], start + 0.55 * (end - start), end), order)


class VeinSegments(NamedTuple):
    """Straight segments of veins. start, end: (N, 2) and radius: (N,) in one unit of length. order: (N,) 1 to 4."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    order: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Length of every segment, (N,)."""
        return np.asarray(np.hypot(*(self.end - self.start).T))

    def of_order(self, order: int) -> "VeinSegments":
        """Select the segments of one order."""
        chosen = self.order == order
        return VeinSegments(*(part[chosen] for part in self))


def assemble_veins(major: list[Vein], minor: MinorVeins, outline: LeafOutline) -> VeinSegments:
    """Split the veins into segments of at most MAX_SEGMENT_LENGTH, and leave out those outside of the margin."""
    curves = VeinSegments(
        np.concatenate([vein.points[:-1] for vein in major]),
        np.concatenate([vein.points[1:] for vein in major]),
        np.concatenate([0.5 * (vein.radii[1:] + vein.radii[:-1]) for vein in major]),
        np.concatenate([np.full(len(vein.points) - 1, vein.order) for vein in major]),
    )
    thin = np.where(minor.order == 3, TERTIARY_RADIUS, QUATERNARY_RADIUS)
    walls = VeinSegments(minor.start, minor.end, thin, minor.order)
    segments = _subdivide(VeinSegments(*(np.concatenate(both) for both in zip(curves, walls, strict=True))))
    middle = 0.5 * (segments.start + segments.end)
    x, y = middle[:, 0], middle[:, 1]
    inside = (x > 0.0) & (x < 1.0) & (np.abs(y) <= outline.margin(x, np.where(y < 0, -1.0, 1.0)))
    return VeinSegments(*(part[inside] for part in segments))


def _seeds_along_veins(major: list[Vein], outline: LeafOutline, spacing: float, rng: np.random.Generator) -> Seeds:
    """Place mirrored pairs of seeds along every major vein, except where another vein is nearer."""
    samples = [_sample_along(vein.points, 0.9 * spacing, 0.15 * spacing, rng) for vein in major]
    middle = np.concatenate([points for points, _ in samples])
    tangent = np.concatenate([directions for _, directions in samples])
    owner = np.repeat(np.arange(len(major)), [len(points) for points, _ in samples])
    offset = 0.42 * spacing * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)

    veins = cKDTree(np.concatenate([vein.points for vein in major]))
    vein_of = np.repeat(np.arange(len(major)), [len(vein.points) for vein in major])
    fits = np.ones(len(owner), dtype=bool)
    for seeds in (middle + offset, middle - offset):
        fits &= (vein_of[veins.query(seeds)[1]] == owner) & (margin_fraction(seeds, outline) < 0.94)
    flank = np.repeat(np.array([1, -1]), fits.sum())
    return Seeds(np.concatenate([(middle + offset)[fits], (middle - offset)[fits]]), np.tile(owner[fits], 2), flank)


def _seeds_along_margin(outline: LeafOutline, spacing: float, rng: np.random.Generator) -> np.ndarray:
    around = outline.polygon() * np.array([1.0, MARGIN_RING_SCALE])
    return _sample_along(around, 0.9 * spacing, 0.2 * spacing, rng)[0]


def _seeds_in_between(outline: LeafOutline, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Place seeds on a jittered triangular lattice inside the blade."""
    column, row = np.meshgrid(np.arange(int(1.2 / spacing)), np.arange(int(1.3 / spacing)))
    lattice = np.stack([column + 0.5 * (row % 2), np.sqrt(0.75) * row], axis=-1).reshape(-1, 2)
    points = spacing * (lattice + 0.24 * rng.standard_normal(lattice.shape)) - np.array([0.0, 0.55])
    return np.asarray(points[margin_fraction(points, outline) < 0.93])


def _sample_along(
    curve: np.ndarray, stride: float, jitter: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sample points (N, 2) about every `stride` along a curve; also return the unit tangents (N, 2)."""
    steps = np.diff(curve, axis=0)
    lengths = np.hypot(*steps.T)
    arc_length = np.concatenate([[0.0], np.cumsum(lengths)])
    stops = np.arange(rng.uniform(0.2, 0.8) * stride, arc_length[-1], stride)
    stops = np.clip(stops + jitter * rng.uniform(-1.0, 1.0, len(stops)), 0.0, arc_length[-1])
    points = np.stack([np.interp(stops, arc_length, coordinate) for coordinate in curve.T], axis=1)
    step = np.clip(np.searchsorted(arc_length, stops, side="right") - 1, 0, len(steps) - 1)
    return points, (steps / lengths[:, None])[step]


def _on_major_vein(seeds: Seeds, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    same_vein = (seeds.owner[first] == seeds.owner[second]) & (seeds.owner[first] >= 0)
    return np.asarray(same_vein & (seeds.flank[first] != seeds.flank[second]))


def _across_margin(seeds: Seeds, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray((seeds.owner[first] == MARGIN_SEED) & (seeds.owner[second] == MARGIN_SEED))


def _number_bands(
    seeds: Seeds,
    sides: tuple[SecondaryVeins, SecondaryVeins],
    outline: LeafOutline,
    band_width: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Number the bands of the seeds, (N,): by side, intercostal field, and distance from the midrib."""
    x, y = seeds.points.T
    fraction = margin_fraction(seeds.points, outline)
    band = np.zeros(len(x), dtype=np.intp)
    for secondaries in sides:
        here = np.sign(y) == secondaries.side
        field = (secondaries.at(fraction[here]) < x[here]).sum(axis=0)
        phase = rng.random(len(secondaries.starts) + 1)  # bands of neighboring fields are not aligned
        step = np.floor(np.abs(y[here]) / band_width + phase[field]).astype(np.intp)
        band[here] = secondaries.side * (1000 * (field + 1) + step)
    return band


def _subdivide(segments: VeinSegments) -> VeinSegments:
    count = np.maximum(np.ceil(segments.length / MAX_SEGMENT_LENGTH), 1.0).astype(int)
    parent = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)
    start, step = segments.start[parent], ((segments.end - segments.start) / count[:, None])[parent]
    return VeinSegments(
        start + rank[:, None] * step,
        start + (rank[:, None] + 1) * step,
        segments.radius[parent],
        segments.order[parent],
    )
