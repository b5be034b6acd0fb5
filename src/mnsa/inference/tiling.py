"""Large images: cut into overlapping tiles, predict each tile, blend the results; resize masks strip by strip.

Memory is needed for the image, its mask and one row of tiles.
H, W image size; h, w size of a tile or of the network's output, in pixels; M mask classes;
E size of what the class is computed from: C_5 features or K logits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.inference.tta import RunningMean, View, attention_size, mask_logits_to_probs, mask_probs_to_classes
from mnsa.model.heads import mask_from_logits
from mnsa.model.network import Network
from mnsa.structures import NetworkOutputs

_STRIP_PX = 2**22  # pixels of a band: the logits of a whole scan would take hundreds of megabytes per mask class


def resize_to_mask(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (M, h, w) -> class indices uint8 (H, W), on the CPU; as resizing all at once, bilinear, would have it."""
    if mask_logits.shape[-2:] == size:
        return mask_from_logits(mask_logits[None])[0].cpu()
    height, width = size
    mask = torch.empty(size, dtype=torch.uint8)
    step = max(1, _STRIP_PX // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        mask[rows] = mask_from_logits(_resize_rows(mask_logits, size, rows)[None])[0].cpu()
    return mask


def _resize_rows(maps: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """Those rows of maps (M, h, w) resized to `size`: (M, rows, W)."""
    ratio = maps.shape[-2] / size[0]
    places = ((torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp(0)
    upper = places.long().clamp(max=maps.shape[-2] - 1)
    lower = (upper + 1).clamp(max=maps.shape[-2] - 1)
    share = (places - upper).to(maps)[:, None]
    first = int(upper[0])
    needed = maps[:, first : int(lower[-1]) + 1]
    wide = F.interpolate(needed[None], (needed.shape[-2], size[1]), mode="bilinear")[0]
    return wide[:, (upper - first).to(maps.device)] * (1 - share) + wide[:, (lower - first).to(maps.device)] * share


GRID_PX = 32  # tiles start at multiples of it, so that the network's coarsest cells are those of the whole image

MAX_TILE_PX = 1024  # a tile's side, unless training inputs are larger

MIN_TILES = 4  # an image of more pixels than so many tiles is cut into tiles


class TileSpan(NamedTuple):
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

    def in_cells(self) -> "TileSpan":
        """The same in the network's coarsest cells."""
        return TileSpan(self.start // GRID_PX, self.start // GRID_PX + self.cells)


@dataclass(frozen=True, slots=True)
class TileAxis:
    """One side of the tiles: its length and what two neighbors share at least, in pixels; both multiples of 32."""

    tile: int
    overlap: int

    @classmethod
    def for_input(cls, input_px: int) -> "TileAxis":
        """Twice the training input, so that little is seen twice; a quarter of that is shared."""
        side = _round_up_to_grid(input_px)
        tile = max(side, min(2 * side, MAX_TILE_PX), 2 * GRID_PX)
        return cls(tile, max(tile // 4 // GRID_PX, 1) * GRID_PX)

    def spans(self, length: int) -> list[TileSpan]:
        """The tiles along a side of `length` pixels; the last is moved back, as far as the grid lets, to be full."""
        last = max(0, _round_up_to_grid(length - self.tile))
        starts = [*range(0, last, self.tile - self.overlap), last]
        return [TileSpan(start, min(start + self.tile, length)) for start in starts]

    def weights(self, spans: Sequence[TileSpan]) -> list[Tensor]:
        """How much each tile counts at each of its pixels, float32 (length,): over all tiles one, everywhere.

        Towards a neighbor it falls smoothly, so that no seam shows: as a squared sine, over the least overlap.
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
    """How large images are cut."""

    rows: TileAxis
    columns: TileAxis

    @classmethod
    def for_input(cls, input_px: tuple[int, int]) -> "Tiling":
        """Tiles for a network that has learnt from inputs of (height, width)."""
        return cls(TileAxis.for_input(input_px[0]), TileAxis.for_input(input_px[1]))

    def needs_tiling(self, size: tuple[int, int]) -> bool:
        """Whether an image of (H, W) is cut."""
        return size[0] * size[1] > MIN_TILES * self.rows.tile * self.columns.tile


class Tile(NamedTuple):
    """A tile's place, and how much it counts at each of its pixels, float32 (h, w)."""

    rows: TileSpan
    columns: TileSpan
    weights: Tensor


def iter_tile_rows(tiling: Tiling, size: tuple[int, int]) -> Iterator[list[Tile]]:
    """The tiles of an image of (H, W), row by row."""
    rows, columns = tiling.rows.spans(size[0]), tiling.columns.spans(size[1])
    across = list(zip(columns, tiling.columns.weights(columns), strict=True))
    for span, down in zip(rows, tiling.rows.weights(rows), strict=True):
        yield [Tile(span, other, down[:, None] * weights) for other, weights in across]


class RowBlender:
    """Maps of tiles, added up row by row; what no later tile reaches is handed on, so that a row of tiles is held.

    finish: what becomes of finished rows: map (M, n, W) -> (n, W), which is all that is kept of them.
    """

    def __init__(self, size: tuple[int, int], dtype: torch.dtype, finish: Callable[[Tensor], Tensor]) -> None:
        self.result = torch.empty(size, dtype=dtype)
        self._finish, self._top = finish, 0
        self._sum: Tensor | None = None

    def add(self, rows: TileSpan, columns: TileSpan, values: Tensor, weights: Tensor) -> None:
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


def _round_up_to_grid(length_px: int) -> int:
    return -(-length_px // GRID_PX) * GRID_PX


Engine = Callable[[Tensor], NetworkOutputs]

# Normalised tiles (1, 3, h, w) and how much their pixels count (1, 1, h, w) -> Outputs, but with (1, E) as class_logits
TileForward = Callable[[Tensor, Tensor], NetworkOutputs]


class TiledOutputs(NamedTuple):
    """What the tiles say together: class_vectors (V, E), a row per view; mask uint8 (H, W); attention (H/32, W/32)."""

    class_vectors: Tensor | None
    mask: Tensor | None
    attention: Tensor | None


def pooling_forward(network: Network) -> TileForward:
    """Pass a tile through a network; E is what its class head pools of F_5, each cell counted by the pixels of the image in it.

    So the features that the classifier gets are those of the whole image: no part counts twice.
    """

    def forward_tile(images: Tensor, weights: Tensor) -> NetworkOutputs:
        head = network.class_head
        if head is None:
            return network(images)  # type: ignore[no-any-return]
        seen: list[Tensor] = []
        catching = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            outputs: NetworkOutputs = network(images)
        finally:
            catching.remove()
        cells = average_over_cells(weights, (seen[0].shape[-2], seen[0].shape[-1]))
        return outputs._replace(class_logits=head.pool(seen[0], cells))

    return forward_tile


def logits_forward(engine: Engine) -> TileForward:
    """Pass a tile through an exported network, which returns no features; E are class logits, each tile's as a whole."""
    return lambda images, _: engine(images)


def predict_tiles(
    forward_tile: TileForward,
    inputs_of: Callable[[Tensor], Tensor],
    image: Tensor,
    tiling: Tiling,
    views: Sequence[View],
) -> TiledOutputs:
    """Predict an image uint8 (3, H, W) tile by tile, each in all views.

    inputs_of: uint8 (3, h, w) -> what the network is shown of it, (1, 3, h, w), on its device.
    """
    size = (image.shape[-2], image.shape[-1])
    class_vectors, masks = RunningMean(), RowBlender(size, torch.uint8, mask_probs_to_classes)
    attention = RowBlender(
        (TileSpan(0, size[0]).cells, TileSpan(0, size[1]).cells), torch.float32, lambda maps: maps[0]
    )
    for tile in chain.from_iterable(iter_tile_rows(tiling, size)):
        rows, columns, weights = tile
        inputs = inputs_of(image[:, rows.start : rows.stop, columns.start : columns.stop])
        weights = weights.to(inputs.device)
        cells = average_over_cells(weights[None, None], (rows.cells, columns.cells))[0, 0]
        found = _predict_tile_views(forward_tile, inputs, weights[None, None], views)
        if found.class_logits is not None:
            class_vectors.add(found.class_logits, float(cells.sum()))
        if found.mask_logits is not None:
            masks.add(rows, columns, found.mask_logits[0, :, : rows.length, : columns.length], weights)
        if found.attention is not None:
            attention.add(rows.in_cells(), columns.in_cells(), found.attention[0], cells)
    return TiledOutputs(class_vectors.value, masks.close(), attention.close())


def _predict_tile_views(
    forward_tile: TileForward, inputs: Tensor, weights: Tensor, views: Sequence[View]
) -> NetworkOutputs:
    """One tile in all views: class_vectors (V, E), mask probabilities (1, M, h, w) and attention, the views' mean."""
    size = (inputs.shape[-2], inputs.shape[-1])
    class_vectors, mask_probs, attention = list[Tensor](), RunningMean(), RunningMean()
    for view in views:
        found = forward_tile(view.apply(inputs), view.flip_rotate(weights))
        if found.class_logits is not None:
            class_vectors.append(found.class_logits)
        if found.mask_logits is not None:
            mask_probs.add(view.invert(mask_logits_to_probs(found.mask_logits), size))
        if found.attention is not None:
            attention.add(view.invert(found.attention, attention_size(size)))
    return NetworkOutputs(torch.cat(class_vectors) if class_vectors else None, mask_probs.value, attention.value)


def average_over_cells(weights: Tensor, cells: tuple[int, int]) -> Tensor:
    """The mean weight in each of the network's coarsest cells: (1, 1, h, w) -> (1, 1, *cells)."""
    height, width = weights.shape[-2:]
    below, right = -height % GRID_PX, -width % GRID_PX
    return F.adaptive_avg_pool2d(F.pad(weights, (0, right, 0, below), mode="replicate"), cells)
