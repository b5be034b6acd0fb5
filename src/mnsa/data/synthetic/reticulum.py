"""The minor veins: a net of Voronoi cells that knows the major veins, so that every areole is closed by real veins.

The walls between a pair of seeds that flank a vein fall on that vein; the inner walls of the seeds along the margin are
the marginal loops. Walls between two rungs of the ladder across an intercostal field are tertiaries, all others
quaternaries. Leaf frame throughout.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import Voronoi

from mnsa.data.synthetic.outline import Outline
from mnsa.data.synthetic.seeds import RING, Seeds, share_of_blade, sow
from mnsa.data.synthetic.venation import Ribs, Vein

RUNG = 1.7  # distance between tertiaries, in areoles
FREE_ENDING = 0.10  # share of the quaternaries that end freely inside an areole
TERTIARY_RADIUS, QUATERNARY_RADIUS = 0.0017, 0.0012


class Walls(NamedTuple):
    """Straight pieces of minor veins: start (N, 2), end (N, 2), order (N,) 3 or 4."""

    start: np.ndarray
    end: np.ndarray
    order: np.ndarray


def reticulum(
    major: list[Vein], sides: tuple[Ribs, Ribs], outline: Outline, cell: float, rng: np.random.Generator
) -> Walls:
    """Draw the minor veins between the `major` ones, with areoles about `cell` wide."""
    seeds = sow(major, outline, cell, rng)
    diagram = Voronoi(seeds.points)
    ends = np.asarray(diagram.ridge_vertices, dtype=np.intp)  # (N, 2); -1 stands for infinity
    first, second = diagram.ridge_points.T
    is_vein = (ends >= 0).all(axis=1) & ~_on_major_vein(seeds, first, second) & ~_across_margin(seeds, first, second)
    ends, first, second = ends[is_vein], first[is_vein], second[is_vein]

    rung = _rungs(seeds, sides, outline, RUNG * cell, rng)
    order = np.where(rung[first] != rung[second], 3, 4)
    start, end = diagram.vertices[ends[:, 0]], diagram.vertices[ends[:, 1]]
    is_free = (order == 4) & (rng.random(len(order)) < FREE_ENDING)
    return Walls(start, np.where(is_free[:, None], start + 0.55 * (end - start), end), order)


def _on_major_vein(seeds: Seeds, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    same_vein = (seeds.owner[first] == seeds.owner[second]) & (seeds.owner[first] >= 0)
    return np.asarray(same_vein & (seeds.flank[first] != seeds.flank[second]))


def _across_margin(seeds: Seeds, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray((seeds.owner[first] == RING) & (seeds.owner[second] == RING))


def _rungs(
    seeds: Seeds, sides: tuple[Ribs, Ribs], outline: Outline, spacing: float, rng: np.random.Generator
) -> np.ndarray:
    """Assign the rungs of the tertiary ladder, (N,): side, intercostal field, steps from the midrib."""
    x, y = seeds.points.T
    share = share_of_blade(seeds.points, outline)
    rung = np.zeros(len(x), dtype=np.intp)
    for ribs in sides:
        here = np.sign(y) == ribs.side
        field = (ribs.at(share[here]) < x[here]).sum(axis=0)
        phase = rng.random(len(ribs.starts) + 1)  # neighbouring fields don't line up
        step = np.floor(np.abs(y[here]) / spacing + phase[field]).astype(np.intp)
        rung[here] = ribs.side * (1000 * (field + 1) + step)
    return rung
