"""A mask at the image's own size, however large: what the network says is enlarged band by band.

H, W image size; h, w size of what the network said, in pixels; M mask classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.model.heads import mask_of

_BAND_PX = 2**22  # pixels of a band: the logits of a whole scan would take hundreds of megabytes per mask class


def mask_at(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (M, h, w) -> class indices uint8 (H, W), on the CPU; as resizing all at once, bilinear, would have it."""
    if mask_logits.shape[-2:] == size:
        return mask_of(mask_logits[None])[0].cpu()
    height, width = size
    mask = torch.empty(size, dtype=torch.uint8)
    step = max(1, _BAND_PX // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        mask[rows] = mask_of(_rows_of(mask_logits, size, rows)[None])[0].cpu()
    return mask


def _rows_of(maps: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
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
