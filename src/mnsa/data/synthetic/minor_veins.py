"""The minor veins, and all veins of a leaf as one list of short straight segments.

Minor veins are the walls of Voronoi cells that fit the major veins, so that real veins close every areole. Seeds of the
cells lie along the major veins, along the margin, and in between. The walls between a pair of seeds that flank a vein
fall on that vein; the inner walls of the seeds along the margin are the marginal loops. Walls between two rungs of the
ladder across an intercostal field are tertiaries, all others quaternaries. Leaf frame throughout.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import Voronoi, cKDTree

from mnsa.data.synthetic.leaf_shape import LeafOutline
from mnsa.data.synthetic.major_veins import SecondaryVeins, Vein

INNER_SEED, MARGIN_SEED = (
    -1,
    -2,
)  # owner of a scattered seed and of one along the margin; a paired seed is owned by its vein

MARGIN_RING_SCALE = 1.02  # the ring runs just outside the margin, so that the marginal loops close just inside


class Seeds(NamedTuple):
    """Voronoi seeds: points (N, 2); owner (N,) vein index, INNER or RING; flank (N,) +1 or -1, its side of the vein."""

    points: np.ndarray
    owner: np.ndarray
    flank: np.ndarray


def place_seeds(major: list[Vein], outline: LeafOutline, cell: float, rng: np.random.Generator) -> Seeds:
    """Place seeds about `cell` apart: first along the veins, then along the margin, then wherever there is room."""
    paired = _seeds_along_veins(major, outline, cell, rng)
    ring = _seeds_along_margin(outline, cell, rng)
    ring = ring[cKDTree(paired.points).query(ring)[0] > 0.4 * cell]
    inner = _seeds_in_between(outline, cell, rng)
    inner = inner[cKDTree(np.concatenate([paired.points, ring])).query(inner)[0] > 0.72 * cell]
    lone = np.concatenate([np.full(len(ring), MARGIN_SEED), np.full(len(inner), INNER_SEED)])
    return Seeds(
        np.concatenate([paired.points, ring, inner]),
        np.concatenate([paired.owner, lone]),
        np.concatenate([paired.flank, np.zeros(len(lone), dtype=np.intp)]),
    )


def margin_fraction(points: np.ndarray, outline: LeafOutline) -> np.ndarray:
    """How far out each point lies: 0 on the midrib, 1 on the margin, more outside."""
    x, y = points.T
    inside = (x > 0.0) & (x < 1.0)
    return np.where(inside, np.abs(y) / np.maximum(outline.margin(x, np.sign(y)), 1e-9), np.inf)


def _seeds_along_veins(major: list[Vein], outline: LeafOutline, cell: float, rng: np.random.Generator) -> Seeds:
    """Mirrored pairs along every major vein, but not where another vein is nearer."""
    walks = [_walk_along(vein.points, 0.9 * cell, 0.15 * cell, rng) for vein in major]
    middle = np.concatenate([points for points, _ in walks])
    tangent = np.concatenate([directions for _, directions in walks])
    owner = np.repeat(np.arange(len(major)), [len(points) for points, _ in walks])
    offset = 0.42 * cell * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)

    veins = cKDTree(np.concatenate([vein.points for vein in major]))
    vein_of = np.repeat(np.arange(len(major)), [len(vein.points) for vein in major])
    fits = np.ones(len(owner), dtype=bool)
    for seeds in (middle + offset, middle - offset):
        fits &= (vein_of[veins.query(seeds)[1]] == owner) & (margin_fraction(seeds, outline) < 0.94)
    flank = np.repeat(np.array([1, -1]), fits.sum())
    return Seeds(np.concatenate([(middle + offset)[fits], (middle - offset)[fits]]), np.tile(owner[fits], 2), flank)


def _seeds_along_margin(outline: LeafOutline, cell: float, rng: np.random.Generator) -> np.ndarray:
    around = outline.polygon() * np.array([1.0, MARGIN_RING_SCALE])
    return _walk_along(around, 0.9 * cell, 0.2 * cell, rng)[0]


def _seeds_in_between(outline: LeafOutline, cell: float, rng: np.random.Generator) -> np.ndarray:
    """Points of a jittered triangular lattice that lie well inside the blade."""
    column, row = np.meshgrid(np.arange(int(1.2 / cell)), np.arange(int(1.3 / cell)))
    lattice = np.stack([column + 0.5 * (row % 2), np.sqrt(0.75) * row], axis=-1).reshape(-1, 2)
    points = cell * (lattice + 0.24 * rng.standard_normal(lattice.shape)) - np.array([0.0, 0.55])
    return np.asarray(points[margin_fraction(points, outline) < 0.93])


def _walk_along(
    curve: np.ndarray, stride: float, jitter: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) about every `stride` along a curve, and the curve's unit tangents (N, 2) there."""
    legs = np.diff(curve, axis=0)
    lengths = np.hypot(*legs.T)
    travelled = np.concatenate([[0.0], np.cumsum(lengths)])
    stops = np.arange(rng.uniform(0.2, 0.8) * stride, travelled[-1], stride)
    stops = np.clip(stops + jitter * rng.uniform(-1.0, 1.0, len(stops)), 0.0, travelled[-1])
    points = np.stack([np.interp(stops, travelled, coordinate) for coordinate in curve.T], axis=1)
    leg = np.clip(np.searchsorted(travelled, stops, side="right") - 1, 0, len(legs) - 1)
    return points, (legs / lengths[:, None])[leg]


RUNG_SPACING = 1.7  # distance between tertiaries, in areoles

FREE_ENDING_FRACTION = 0.10  # share of the quaternaries that end freely inside an areole

TERTIARY_RADIUS, QUATERNARY_RADIUS = 0.0017, 0.0012


class MinorVeins(NamedTuple):
    """Straight pieces of minor veins: start (N, 2), end (N, 2), order (N,) 3 or 4."""

    start: np.ndarray
    end: np.ndarray
    order: np.ndarray


def draw_minor_veins(
    major: list[Vein],
    sides: tuple[SecondaryVeins, SecondaryVeins],
    outline: LeafOutline,
    cell: float,
    rng: np.random.Generator,
) -> MinorVeins:
    """Draw the minor veins between the `major` ones, with areoles about `cell` wide."""
    seeds = place_seeds(major, outline, cell, rng)
    diagram = Voronoi(seeds.points)
    ends = np.asarray(diagram.ridge_vertices, dtype=np.intp)  # (N, 2); -1 stands for infinity
    first, second = diagram.ridge_points.T
    is_vein = (ends >= 0).all(axis=1) & ~_on_major_vein(seeds, first, second) & ~_across_margin(seeds, first, second)
    ends, first, second = ends[is_vein], first[is_vein], second[is_vein]

    rung = _rungs(seeds, sides, outline, RUNG_SPACING * cell, rng)
    order = np.where(rung[first] != rung[second], 3, 4)
    start, end = diagram.vertices[ends[:, 0]], diagram.vertices[ends[:, 1]]
    is_free = (order == 4) & (rng.random(len(order)) < FREE_ENDING_FRACTION)
    return MinorVeins(start, np.where(is_free[:, None], start + 0.55 * (end - start), end), order)


def _on_major_vein(seeds: Seeds, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    same_vein = (seeds.owner[first] == seeds.owner[second]) & (seeds.owner[first] >= 0)
    return np.asarray(same_vein & (seeds.flank[first] != seeds.flank[second]))


def _across_margin(seeds: Seeds, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray((seeds.owner[first] == MARGIN_SEED) & (seeds.owner[second] == MARGIN_SEED))


def _rungs(
    seeds: Seeds,
    sides: tuple[SecondaryVeins, SecondaryVeins],
    outline: LeafOutline,
    spacing: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Assign the rungs of the tertiary ladder, (N,): side, intercostal field, steps from the midrib."""
    x, y = seeds.points.T
    share = margin_fraction(seeds.points, outline)
    rung = np.zeros(len(x), dtype=np.intp)
    for ribs in sides:
        here = np.sign(y) == ribs.side
        field = (ribs.at(share[here]) < x[here]).sum(axis=0)
        phase = rng.random(len(ribs.starts) + 1)  # neighboring fields don't line up
        step = np.floor(np.abs(y[here]) / spacing + phase[field]).astype(np.intp)
        rung[here] = ribs.side * (1000 * (field + 1) + step)
    return rung


MAX_SEGMENT_LENGTH = 1.0 / 128.0  # longest piece, in the unit of the points


class VeinSegments(NamedTuple):
    """Straight pieces of veins: start (N, 2), end (N, 2), radius (N,) in one unit of length; order (N,) 1..4."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    order: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Length of every piece, (N,)."""
        return np.asarray(np.hypot(*(self.end - self.start).T))

    def of_order(self, order: int) -> "VeinSegments":
        """Keep the veins of one order only."""
        chosen = self.order == order
        return VeinSegments(*(part[chosen] for part in self))


def assemble_veins(major: list[Vein], minor: MinorVeins, outline: LeafOutline) -> VeinSegments:
    """Cut the veins into pieces no longer than PIECE and leave out those beyond the margin."""
    curves = VeinSegments(
        np.concatenate([vein.points[:-1] for vein in major]),
        np.concatenate([vein.points[1:] for vein in major]),
        np.concatenate([0.5 * (vein.radii[1:] + vein.radii[:-1]) for vein in major]),
        np.concatenate([np.full(len(vein.points) - 1, vein.order) for vein in major]),
    )
    thin = np.where(minor.order == 3, TERTIARY_RADIUS, QUATERNARY_RADIUS)
    walls = VeinSegments(minor.start, minor.end, thin, minor.order)
    pieces = _subdivide(VeinSegments(*(np.concatenate(both) for both in zip(curves, walls, strict=True))))
    middle = 0.5 * (pieces.start + pieces.end)
    x, y = middle[:, 0], middle[:, 1]
    inside = (x > 0.0) & (x < 1.0) & (np.abs(y) <= outline.margin(x, np.where(y < 0, -1.0, 1.0)))
    return VeinSegments(*(part[inside] for part in pieces))


def _subdivide(pieces: VeinSegments) -> VeinSegments:
    count = np.maximum(np.ceil(pieces.length / MAX_SEGMENT_LENGTH), 1.0).astype(int)
    parent = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)
    start, step = pieces.start[parent], ((pieces.end - pieces.start) / count[:, None])[parent]
    return VeinSegments(
        start + rank[:, None] * step,
        start + (rank[:, None] + 1) * step,
        pieces.radius[parent],
        pieces.order[parent],
    )
