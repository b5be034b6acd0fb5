"""All veins of a leaf as one list of short straight pieces: what is drawn, and what is measured."""

from typing import NamedTuple

import numpy as np

from mnsa.data.synthetic.outline import Outline
from mnsa.data.synthetic.reticulum import QUATERNARY_RADIUS, TERTIARY_RADIUS, Walls
from mnsa.data.synthetic.venation import Vein

PIECE = 1.0 / 128.0  # longest piece, in the unit of the points


class Pieces(NamedTuple):
    """Straight pieces of veins: start (N, 2), end (N, 2), radius (N,) in one unit of length; order (N,) 1..4."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    order: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Length of every piece, (N,)."""
        return np.asarray(np.hypot(*(self.end - self.start).T))

    def of_order(self, order: int) -> "Pieces":
        """Keep the veins of one order only."""
        chosen = self.order == order
        return Pieces(*(part[chosen] for part in self))


def assemble(major: list[Vein], minor: Walls, outline: Outline) -> Pieces:
    """Cut the veins into pieces no longer than PIECE and leave out those beyond the margin."""
    curves = Pieces(
        np.concatenate([vein.points[:-1] for vein in major]),
        np.concatenate([vein.points[1:] for vein in major]),
        np.concatenate([0.5 * (vein.radii[1:] + vein.radii[:-1]) for vein in major]),
        np.concatenate([np.full(len(vein.points) - 1, vein.order) for vein in major]),
    )
    thin = np.where(minor.order == 3, TERTIARY_RADIUS, QUATERNARY_RADIUS)
    walls = Pieces(minor.start, minor.end, thin, minor.order)
    pieces = _cut(Pieces(*(np.concatenate(both) for both in zip(curves, walls, strict=True))))
    middle = 0.5 * (pieces.start + pieces.end)
    x, y = middle[:, 0], middle[:, 1]
    inside = (x > 0.0) & (x < 1.0) & (np.abs(y) <= outline.margin(x, np.where(y < 0, -1.0, 1.0)))
    return Pieces(*(part[inside] for part in pieces))


def _cut(pieces: Pieces) -> Pieces:
    count = np.maximum(np.ceil(pieces.length / PIECE), 1.0).astype(int)
    parent = np.repeat(np.arange(len(count)), count)
    rank = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)
    start, step = pieces.start[parent], ((pieces.end - pieces.start) / count[:, None])[parent]
    return Pieces(
        start + rank[:, None] * step,
        start + (rank[:, None] + 1) * step,
        pieces.radius[parent],
        pieces.order[parent],
    )
