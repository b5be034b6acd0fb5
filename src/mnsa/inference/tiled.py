"""The answer for a large image, from tiles of it: memory for the image, its mask and one row of tiles.

H, W image size; h, w size of a tile, in pixels; E what the class is read off: features C_5 or logits K; M mask classes.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.inference.tiles import GRID_PX, Band, Span, Tiling, tile_rows
from mnsa.inference.views import Mean, View, cells_of, mask_from, mask_probs_of
from mnsa.model.network import Network
from mnsa.records import Outputs

Engine = Callable[[Tensor], Outputs]
# Normalised tiles (1, 3, h, w) and how much their pixels count (1, 1, h, w) -> Outputs, but with (1, E) as class_logits
Look = Callable[[Tensor, Tensor], Outputs]


class Stitched(NamedTuple):
    """What the tiles say together: evidence (V, E), a row per view; mask uint8 (H, W); attention (H/32, W/32)."""

    evidence: Tensor | None
    mask: Tensor | None
    attention: Tensor | None


def look_into(network: Network) -> Look:
    """Look with a network; E is what its class head pools of F_5, each cell counted by the pixels of the image in it.

    So the features that the classifier gets are those of the whole image: no part counts twice.
    """

    def look(images: Tensor, weights: Tensor) -> Outputs:
        head = network.class_head
        if head is None:
            return network(images)  # type: ignore[no-any-return]
        seen: list[Tensor] = []
        catching = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            outputs: Outputs = network(images)
        finally:
            catching.remove()
        cells = to_cells(weights, (seen[0].shape[-2], seen[0].shape[-1]))
        return outputs._replace(class_logits=head.pool(seen[0], cells))

    return look


def look_through(engine: Engine) -> Look:
    """Look with an exported network, which keeps its features to itself; E are class logits, each tile's as a whole."""
    return lambda images, _: engine(images)


def read_tiles(
    look: Look, inputs_of: Callable[[Tensor], Tensor], image: Tensor, tiling: Tiling, views: Sequence[View]
) -> Stitched:
    """Look at an image uint8 (3, H, W) tile by tile, each in all views.

    inputs_of: uint8 (3, h, w) -> what the network is shown of it, (1, 3, h, w), on its device.
    """
    size = (image.shape[-2], image.shape[-1])
    evidence, masks = Mean(), Band(size, torch.uint8, mask_from)
    attention = Band((Span(0, size[0]).cells, Span(0, size[1]).cells), torch.float32, lambda maps: maps[0])
    for tile in chain.from_iterable(tile_rows(tiling, size)):
        rows, columns, weights = tile
        inputs = inputs_of(image[:, rows.start : rows.stop, columns.start : columns.stop])
        weights = weights.to(inputs.device)
        cells = to_cells(weights[None, None], (rows.cells, columns.cells))[0, 0]
        found = _in_views(look, inputs, weights[None, None], views)
        if found.class_logits is not None:
            evidence.add(found.class_logits, float(cells.sum()))
        if found.mask_logits is not None:
            masks.add(rows, columns, found.mask_logits[0, :, : rows.length, : columns.length], weights)
        if found.attention is not None:
            attention.add(rows.in_cells(), columns.in_cells(), found.attention[0], cells)
    return Stitched(evidence.value, masks.close(), attention.close())


def _in_views(look: Look, inputs: Tensor, weights: Tensor, views: Sequence[View]) -> Outputs:
    """One tile in all views: evidence (V, E), mask probabilities (1, M, h, w) and attention, the views' mean."""
    size = (inputs.shape[-2], inputs.shape[-1])
    evidence, mask_probs, attention = list[Tensor](), Mean(), Mean()
    for view in views:
        found = look(view.show(inputs), view.move(weights))
        if found.class_logits is not None:
            evidence.append(found.class_logits)
        if found.mask_logits is not None:
            mask_probs.add(view.undo(mask_probs_of(found.mask_logits), size))
        if found.attention is not None:
            attention.add(view.undo(found.attention, cells_of(size)))
    return Outputs(torch.cat(evidence) if evidence else None, mask_probs.value, attention.value)


def to_cells(weights: Tensor, cells: tuple[int, int]) -> Tensor:
    """The mean weight in each of the network's coarsest cells: (1, 1, h, w) -> (1, 1, *cells)."""
    height, width = weights.shape[-2:]
    below, right = -height % GRID_PX, -width % GRID_PX
    return F.adaptive_avg_pool2d(F.pad(weights, (0, right, 0, below), mode="replicate"), cells)
