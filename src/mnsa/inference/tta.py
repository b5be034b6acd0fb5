"""Test-time augmentation: an image is shown to the network in several views, whose answers are averaged.

Probabilities are averaged, not logits. B batch; h, w network input size; K classes; M mask classes.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.errors import ConfigError
from mnsa.records import Outputs

AUGMENTATIONS = ("flips", "turns", "scales")
SCALES = (0.8, 1.0, 1.25)
_LEAST_PX = _CELL_PX = 32  # a view's side, and that of a cell of attention


class View(NamedTuple):
    """A picture mirrored left to right or not, then turned by quarters, then resized."""

    mirrored: bool = False
    quarters: int = 0
    scale: float = 1.0

    def show(self, images: Tensor) -> Tensor:
        """Images (B, 3, h, w) as this view has them."""
        moved = self.move(images)
        if self.scale == 1:
            return moved
        size = [max(_LEAST_PX, round(side * self.scale)) for side in moved.shape[-2:]]
        return F.interpolate(moved, size, mode="bilinear", antialias=True)

    def move(self, maps: Tensor) -> Tensor:
        """Mirror and turn maps (..., h, w); no pixel is changed."""
        return torch.rot90(maps.flip(-1) if self.mirrored else maps, self.quarters, (-2, -1))

    def undo(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B, M, ...) of this view as the picture of `size` (h, w) has them; exact but for the resizing."""
        moved_size = size[::-1] if self.quarters % 2 else size
        if maps.shape[-2:] != moved_size:
            maps = F.interpolate(maps, moved_size, mode="bilinear")
        back = torch.rot90(maps, -self.quarters, (-2, -1))
        return back.flip(-1) if self.mirrored else back


def views_of(augmentations: Iterable[str], *, quarter_turns: bool) -> tuple[View, ...]:
    """The views, the picture itself first. flips: mirrored and upside down; turns: by quarters; scales: SCALES.

    quarter_turns: whether the network may see a picture lying on its side; otherwise `turns` are half turns.
    Raises: ConfigError for a word that is none of these.
    """
    chosen = set(augmentations)
    if strangers := sorted(chosen - set(AUGMENTATIONS)):
        raise ConfigError(f"There is no augmentation {strangers[0]!r}. Expected some of {', '.join(AUGMENTATIONS)}.")
    flips = [(False, 0), (True, 0), (True, 2), (False, 2)] if "flips" in chosen else [(False, 0)]
    turns = range(0, 4, 1 if quarter_turns else 2) if "turns" in chosen else (0,)
    scales = sorted(SCALES, key=lambda scale: abs(scale - 1)) if "scales" in chosen else (1.0,)
    # A mirrored picture that is turned is met on several ways; each view counts once.
    moves = dict.fromkeys((mirrored, (half + turn) % 4) for (mirrored, half), turn in product(flips, turns))
    return tuple(View(mirrored, quarters, scale) for scale in scales for mirrored, quarters in moves)


def mask_probs_of(mask_logits: Tensor) -> Tensor:
    """Logits (B, M, h, w) -> probabilities; M = 1: of the class, M >= 2: they sum to one."""
    return mask_logits.sigmoid() if mask_logits.shape[1] == 1 else mask_logits.softmax(1)


def mask_logits_of(mask_probs: Tensor) -> Tensor:
    """The way back, up to a constant per pixel where M >= 2."""
    return mask_probs.logit(eps=1e-7) if mask_probs.shape[1] == 1 else mask_probs.clamp_min(1e-7).log()


def averaged(answer: Callable[[Tensor], Outputs], images: Tensor, views: Sequence[View], temperature: float) -> Outputs:
    """What all views together say of images (B, 3, h, w), as logits; attention: the mean.

    temperature: class probabilities are softmax(logits / temperature), which the result keeps to.
    """
    if len(views) == 1:
        return answer(images)
    size = (images.shape[-2], images.shape[-1])
    class_probs, mask_probs, attention = Mean(), Mean(), Mean()
    for view in views:
        outputs = answer(view.show(images))
        if outputs.class_logits is not None:
            class_probs.add((outputs.class_logits / temperature).softmax(1))
        if outputs.mask_logits is not None:
            mask_probs.add(view.undo(mask_probs_of(outputs.mask_logits), size))
        if outputs.attention is not None:
            attention.add(view.undo(outputs.attention, cells_of(size)))
    return Outputs(
        None if class_probs.value is None else temperature * class_probs.value.log(),
        None if mask_probs.value is None else mask_logits_of(mask_probs.value),
        attention.value,
    )


def mask_from(mask_probs: Tensor) -> Tensor:
    """Each pixel's most probable class: probabilities (M, h, w) -> (h, w); M = 1: whether it is likelier than not."""
    return mask_probs[0] > 0.5 if len(mask_probs) == 1 else mask_probs.argmax(0)


def cells_of(size: tuple[int, int]) -> tuple[int, int]:
    """How many cells of attention an input of (h, w) has."""
    return -(-size[0] // _CELL_PX), -(-size[1] // _CELL_PX)


class Mean:
    """A running mean of tensors of one shape, weighted; None before the first."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._weights = 0.0

    def add(self, value: Tensor, weight: float = 1.0) -> None:
        """Count one more."""
        self._sum = value * weight if self._sum is None else self._sum + value * weight
        self._weights += weight

    @property
    def value(self) -> Tensor | None:
        return None if self._sum is None else self._sum / self._weights
