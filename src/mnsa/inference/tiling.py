"""Large images: cut into overlapping tiles, predict each tile, blend the results.

Memory is needed for the image, its mask and one row of tiles.
H, W image size; h, w size of a tile or of the network's output, in pixels; M mask classes; V views;
E size of a class output: C_5 pooled features or K logits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.inference.tta import (
    CELL_PX,
    RunningMean,
    View,
    ViewOutputs,
    attention_size,
    collect_views,
)
from mnsa.model.network import Network
from mnsa.structures import NetworkOutputs

GRID_PX = CELL_PX  # tiles start at multiples of it, so the deepest cells of a tile are cells of the whole image

MAX_TILE_PX = 1024  # a tile's side, unless training inputs are larger

MIN_TILES = 4  # an image with more pixels than this many tiles is cut into tiles

Engine = Callable[[Tensor], NetworkOutputs]

# Normalized tiles (1, 3, h, w) and the weights of their pixels (1, 1, h, w) -> outputs with class outputs (1, E)
TileForward = Callable[[Tensor, Tensor], NetworkOutputs]


class TileSpan(NamedTuple):
    """The rows or columns of a tile: start <= n < stop."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def cells(self) -> int:
        """The number of the network's deepest cells along the span; a cell may be incomplete."""
        return -(-self.length // GRID_PX)

    def in_cells(self) -> "TileSpan":
        """The same span, counted in the network's deepest cells."""
        return TileSpan(self.start // GRID_PX, self.start // GRID_PX + self.cells)


@dataclass(frozen=True, slots=True)
class TileAxis:
    """One side of the tiles: the length and the least overlap of two neighbors, in pixels, multiples of 32."""

    tile: int
    overlap: int

    @classmethod
    def for_input(cls, input_px: int) -> "TileAxis":
        """Choose twice the training input, which leaves few pixels to predict twice, and a quarter of it as overlap."""
        side = _round_up_to_grid(input_px)
        tile = max(side, min(2 * side, MAX_TILE_PX), 2 * GRID_PX)
        return cls(tile, max(tile // 4 // GRID_PX, 1) * GRID_PX)

    def spans(self, length: int) -> list[TileSpan]:
        """The tiles along a side of `length` pixels; the last one is moved back on the grid, so that it is full."""
        last = max(0, _round_up_to_grid(length - self.tile))
        starts = [*range(0, last, self.tile - self.overlap), last]
        return [TileSpan(start, min(start + self.tile, length)) for start in starts]

    def weights(self, spans: Sequence[TileSpan]) -> list[Tensor]:
        """The blending weights of each tile, float32 (length,). At every pixel, the tiles' weights sum to 1.

        Over the least overlap they fall as a squared sine, so that no seam is visible.
        """
        windows = [self._window(span, spans[-1].stop) for span in spans]
        total = torch.zeros(spans[-1].stop, dtype=torch.float64)
        for (start, stop), window in zip(spans, windows, strict=True):
            total[start:stop] += window
        return [(window / total[start:stop]).float() for (start, stop), window in zip(spans, windows, strict=True)]

    def _window(self, span: TileSpan, length: int) -> Tensor:
        rise = torch.sin(math.pi / 2 * (torch.arange(self.overlap, dtype=torch.float64) + 0.5) / self.overlap) ** 2
        window = torch.ones(span.length, dtype=torch.float64)
        if span.start > 0:
            window[: self.overlap] *= rise
        if span.stop < length:
            window[-self.overlap :] *= rise.flip(0)
        return window


@dataclass(frozen=True, slots=True)
class Tiling:
    """The size and overlap of tiles along both sides of an image."""

    rows: TileAxis
    columns: TileAxis

    @classmethod
    def for_input(cls, input_px: tuple[int, int]) -> "Tiling":
        """Choose tiles for a network that was trained on inputs of (height, width)."""
        return cls(TileAxis.for_input(input_px[0]), TileAxis.for_input(input_px[1]))

    def needs_tiling(self, size: tuple[int, int]) -> bool:
        """Whether an image of (H, W) is cut into tiles."""
        return size[0] * size[1] > MIN_TILES * self.rows.tile * self.columns.tile


class Tile(NamedTuple):
    """A tile's place in the image, and the blending weights of its pixels, float32 (h, w)."""

    rows: TileSpan
    columns: TileSpan
    weights: Tensor


def iter_tile_rows(tiling: Tiling, size: tuple[int, int]) -> Iterator[list[Tile]]:
    """Yield the tiles of an image of (H, W), one row of tiles at a time."""
    rows, columns = tiling.rows.spans(size[0]), tiling.columns.spans(size[1])
    across = list(zip(columns, tiling.columns.weights(columns), strict=True))
    for span, down in zip(rows, tiling.rows.weights(rows), strict=True):
        yield [Tile(span, other, down[:, None] * weights) for other, weights in across]


class RowBlender:
    """Adds up the weighted maps of tiles and finishes rows that no later tile reaches; it holds one row of tiles.

    finish: converts finished rows, (M, n, W) -> (D, n, W). dtype: of the result.
    """

    def __init__(self, size: tuple[int, int], dtype: torch.dtype, finish: Callable[[Tensor], Tensor]) -> None:
        self.size, self.dtype = size, dtype
        self.result: Tensor | None = None  # (D, H, W); D is known when the first rows are finished
        self._finish, self._top = finish, 0
        self._sum: Tensor | None = None

    def add(self, rows: TileSpan, columns: TileSpan, values: Tensor, weights: Tensor) -> None:
        """Add the map (M, h, w) of a tile with weights (h, w). Tiles come row by row."""
        self._advance(rows.start)
        if self._sum is None:  # no later row of tiles is taller than the first
            self._sum = values.new_zeros(values.shape[0], rows.length, self.size[1])
        self._sum[:, : rows.length, columns.start : columns.stop] += values * weights

    def close(self) -> Tensor | None:
        """Finish the last rows. Returns: the whole maps (D, H, W); None when nothing was added."""
        self._advance(self.size[0])
        return self.result

    def _advance(self, top: int) -> None:
        done = top - self._top
        if done <= 0 or self._sum is None:
            return
        finished = self._finish(self._sum[:, :done])
        if self.result is None:
            self.result = torch.empty((len(finished), *self.size), dtype=self.dtype)
        self.result[:, self._top : top] = finished.to(self.result)
        rest = self._sum[:, done:].clone()
        self._sum[:, : rest.shape[1]] = rest
        self._sum[:, rest.shape[1] :] = 0
        self._top = top


class TiledOutputs(NamedTuple):
    """The outputs for a whole image.

    class_outputs: (V, E), one per view. mask_maps: uint8 (D, H, W), of which the mask is made. attention: (H/32, W/32).
    """

    class_outputs: Tensor | None
    mask_maps: Tensor | None
    attention: Tensor | None


def predict_tiles(
    forward_tile: TileForward,
    make_inputs: Callable[[Tensor], Tensor],
    image: Tensor,
    tiling: Tiling,
    views: Sequence[View],
    decide: Callable[[Tensor], Tensor],
) -> TiledOutputs:
    """Predict an image uint8 (3, H, W) tile by tile, each tile in all views.

    make_inputs: uint8 (3, h, w) -> the network's input (1, 3, h, w), on its device. decide: mask probabilities
    (M, n, W) -> uint8 (D, n, W), each pixel by itself.
    """
    size = (image.shape[-2], image.shape[-1])
    class_outputs, masks = RunningMean(), RowBlender(size, torch.uint8, decide)
    attention = RowBlender(attention_size(size), torch.float32, lambda maps: maps)
    for tile in chain.from_iterable(iter_tile_rows(tiling, size)):
        rows, columns, weights = tile
        inputs = make_inputs(image[:, rows.start : rows.stop, columns.start : columns.stop])
        weights = weights.to(inputs.device)[None, None]
        found = _predict_tile(forward_tile, inputs, weights, views)
        cell_weights = average_over_cells(weights, (rows.cells, columns.cells))[0, 0]
        if found.class_outputs is not None:
            class_outputs.add(found.class_outputs[:, 0], float(cell_weights.sum()))
        if found.mask_probs is not None:
            masks.add(rows, columns, found.mask_probs[0, :, : rows.length, : columns.length], weights[0, 0])
        if found.attention is not None:
            attention.add(rows.in_cells(), columns.in_cells(), found.attention[0], cell_weights)
    blended = attention.close()
    return TiledOutputs(class_outputs.value, masks.close(), None if blended is None else blended[0])


def _predict_tile(forward_tile: TileForward, inputs: Tensor, weights: Tensor, views: Sequence[View]) -> ViewOutputs:
    """Predict one tile in all views. inputs: (1, 3, h, w); weights: (1, 1, h, w)."""

    def forward(view: View) -> NetworkOutputs:
        return forward_tile(view.apply(inputs), view.flip_rotate(weights))

    return collect_views(forward, views, (inputs.shape[-2], inputs.shape[-1]))


def pooling_forward(network: Network) -> TileForward:
    """Make a forward pass for tiles whose class output is what the class head pools, (1, C_5).

    Each cell is weighted by the blending weights of its pixels. So the classifier gets the features of the whole image,
    and no part of the image counts twice.
    """

    def forward_tile(images: Tensor, weights: Tensor) -> NetworkOutputs:
        head = network.class_head
        if head is None:
            return network(images)  # type: ignore[no-any-return]
        head_inputs: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, inputs: head_inputs.append(inputs[0]))
        try:
            outputs: NetworkOutputs = network(images)
        finally:
            hook.remove()
        features = head_inputs[0]
        cell_weights = average_over_cells(weights, (features.shape[-2], features.shape[-1]))
        return outputs._replace(class_logits=head.pool(features, cell_weights))

    return forward_tile


def logits_forward(engine: Engine) -> TileForward:
    """Make a forward pass for tiles of an exported network, without features: the class output is (1, K) logits."""
    return lambda images, _: engine(images)


def average_over_cells(weights: Tensor, cells: tuple[int, int]) -> Tensor:
    """Average weights over the network's deepest cells: (1, 1, h, w) -> (1, 1, rows, columns)."""
    height, width = weights.shape[-2:]
    below, right = -height % GRID_PX, -width % GRID_PX
    return F.adaptive_avg_pool2d(F.pad(weights, (0, right, 0, below), mode="replicate"), cells)


def _round_up_to_grid(length_px: int) -> int:
    return -(-length_px // GRID_PX) * GRID_PX
