"""Overlapping tiles of a large image: where they lie, how much each counts where, and how their maps become one.

H, W image size; h, w size of a tile, in pixels; M channels of a map.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

GRID_PX = 32  # tiles start at multiples of it, so that the network's coarsest cells are those of the whole image
USUAL_MOST_PX = 1024  # a tile's side, unless training inputs are larger
UNTILED_TILES = 4  # an image of more pixels than so many tiles is cut into tiles


class Span(NamedTuple):
    """A tile's rows or columns: start <= n < stop."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def cells(self) -> int:
        """How many of the network's coarsest cells it has."""
        return -(-self.length // GRID_PX)

    def in_cells(self) -> "Span":
        """The same in the network's coarsest cells."""
        return Span(self.start // GRID_PX, self.start // GRID_PX + self.cells)


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of the tiles: its length and what two neighbours share at least, in pixels; both multiples of 32."""

    tile: int
    overlap: int

    @classmethod
    def of(cls, input_px: int) -> "Axis":
        """Twice the training input, so that little is seen twice; a quarter of that is shared."""
        side = _up(input_px)
        tile = max(side, min(2 * side, USUAL_MOST_PX), 2 * GRID_PX)
        return cls(tile, max(tile // 4 // GRID_PX, 1) * GRID_PX)

    def spans(self, length: int) -> list[Span]:
        """The tiles along a side of `length` pixels; the last is moved back, as far as the grid lets, to be full."""
        last = max(0, _up(length - self.tile))
        starts = [*range(0, last, self.tile - self.overlap), last]
        return [Span(start, min(start + self.tile, length)) for start in starts]

    def weights(self, spans: Sequence[Span]) -> list[Tensor]:
        """How much each tile counts at each of its pixels, float32 (length,): over all tiles one, everywhere.

        Towards a neighbour it falls smoothly, so that no seam shows: as a squared sine, over the least overlap.
        """
        windows = [self._window(span, spans[-1].stop) for span in spans]
        total = torch.zeros(spans[-1].stop, dtype=torch.float64)
        for (start, stop), window in zip(spans, windows, strict=True):
            total[start:stop] += window
        return [(window / total[start:stop]).float() for (start, stop), window in zip(spans, windows, strict=True)]

    def _window(self, span: Span, length: int) -> Tensor:
        rise = torch.sin(math.pi / 2 * (torch.arange(self.overlap, dtype=torch.float64) + 0.5) / self.overlap) ** 2
        window = torch.ones(span.length, dtype=torch.float64)
        if span.start > 0:
            window[: self.overlap] *= rise
        if span.stop < length:
            window[-self.overlap :] *= rise.flip(0)
        return window


@dataclass(frozen=True, slots=True)
class Tiling:
    """How large images are cut."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, input_px: tuple[int, int]) -> "Tiling":
        """Tiles for a network that has learnt from inputs of (height, width)."""
        return cls(Axis.of(input_px[0]), Axis.of(input_px[1]))

    def cuts(self, size: tuple[int, int]) -> bool:
        """Whether an image of (H, W) is cut."""
        return size[0] * size[1] > UNTILED_TILES * self.rows.tile * self.columns.tile


class Tile(NamedTuple):
    """A tile's place, and how much it counts at each of its pixels, float32 (h, w)."""

    rows: Span
    columns: Span
    weights: Tensor


def tile_rows(tiling: Tiling, size: tuple[int, int]) -> Iterator[list[Tile]]:
    """The tiles of an image of (H, W), row by row."""
    rows, columns = tiling.rows.spans(size[0]), tiling.columns.spans(size[1])
    across = list(zip(columns, tiling.columns.weights(columns), strict=True))
    for span, down in zip(rows, tiling.rows.weights(rows), strict=True):
        yield [Tile(span, other, down[:, None] * weights) for other, weights in across]


class Band:
    """Maps of tiles, added up row by row; what no later tile reaches is handed on, so that a row of tiles is held.

    finish: what becomes of finished rows: map (M, n, W) -> (n, W), which is all that is kept of them.
    """

    def __init__(self, size: tuple[int, int], dtype: torch.dtype, finish: Callable[[Tensor], Tensor]) -> None:
        self.result = torch.empty(size, dtype=dtype)
        self._finish, self._top = finish, 0
        self._sum: Tensor | None = None

    def add(self, rows: Span, columns: Span, values: Tensor, weights: Tensor) -> None:
        """Add a tile's map (M, h, w), which counts as much as `weights` (h, w). Tiles come row by row."""
        self._advance(rows.start)
        if self._sum is None:  # no later row of tiles is taller than the first
            self._sum = values.new_zeros(values.shape[0], rows.length, self.result.shape[1])
        self._sum[:, : rows.length, columns.start : columns.stop] += values * weights

    def close(self) -> Tensor | None:
        """Hand the rest on. Returns: the finished map, (H, W); None where nothing was added."""
        self._advance(len(self.result))
        return None if self._sum is None else self.result

    def _advance(self, top: int) -> None:
        done = top - self._top
        if done <= 0 or self._sum is None:
            return
        self.result[self._top : top] = self._finish(self._sum[:, :done]).to(self.result)
        rest = self._sum[:, done:].clone()
        self._sum[:, : rest.shape[1]] = rest
        self._sum[:, rest.shape[1] :] = 0
        self._top = top


def _up(length_px: int) -> int:
    return -(-length_px // GRID_PX) * GRID_PX
