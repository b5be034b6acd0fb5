"""Test-time augmentation: predict several views of an image and average their probabilities, not their logits.

B batch; h, w network input size; K classes; M mask classes.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.errors import ConfigError
from mnsa.structures import NetworkOutputs

AUGMENTATIONS = ("flips", "rot90", "scales")

TTA_SCALES = (0.8, 1.0, 1.25)

_MIN_SIDE_PX = _CELL_PX = 32  # a view's side, and that of a cell of attention


class View(NamedTuple):
    """An image, flipped left to right or not, then turned by multiples of 90 degrees, then resized."""

    hflip: bool = False
    rotations: int = 0
    scale: float = 1.0

    def apply(self, images: Tensor) -> Tensor:
        """Images (B, 3, h, w) as this view has them."""
        moved = self.flip_rotate(images)
        if self.scale == 1:
            return moved
        size = [max(_MIN_SIDE_PX, round(side * self.scale)) for side in moved.shape[-2:]]
        return F.interpolate(moved, size, mode="bilinear", antialias=True)

    def flip_rotate(self, maps: Tensor) -> Tensor:
        """Mirror and turn maps (..., h, w); no pixel is changed."""
        return torch.rot90(maps.flip(-1) if self.hflip else maps, self.rotations, (-2, -1))

    def invert(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B, M, ...) of this view as the picture of `size` (h, w) has them; exact but for the resizing."""
        moved_size = size[::-1] if self.rotations % 2 else size
        if maps.shape[-2:] != moved_size:
            maps = F.interpolate(maps, moved_size, mode="bilinear")
        back = torch.rot90(maps, -self.rotations, (-2, -1))
        return back.flip(-1) if self.hflip else back


def build_views(augmentations: Iterable[str], *, allow_quarter_turns: bool) -> tuple[View, ...]:
    """The views, the picture itself first. flips: left to right and upside down; rot90: quarter rotations; scales: TTA_SCALES.

    allow_quarter_turns: whether the network may see a picture lying on its side; otherwise `rot90` is by 180 degrees.
    Raises: ConfigError for a word that is none of these.
    """
    chosen = set(augmentations)
    if strangers := sorted(chosen - set(AUGMENTATIONS)):
        raise ConfigError(f"There is no augmentation {strangers[0]!r}. Expected some of {', '.join(AUGMENTATIONS)}.")
    flips = [(False, 0), (True, 0), (True, 2), (False, 2)] if "flips" in chosen else [(False, 0)]
    rot90 = range(0, 4, 1 if allow_quarter_turns else 2) if "rot90" in chosen else (0,)
    scales = sorted(TTA_SCALES, key=lambda scale: abs(scale - 1)) if "scales" in chosen else (1.0,)
    # Several combinations of flip and rotation give the same view; each view counts once.
    moves = dict.fromkeys((hflip, (half + turn) % 4) for (hflip, half), turn in product(flips, rot90))
    return tuple(View(hflip, rotations, scale) for scale in scales for hflip, rotations in moves)


def mask_logits_to_probs(mask_logits: Tensor) -> Tensor:
    """Logits (B, M, h, w) -> probabilities; M = 1: of the class, M >= 2: they sum to one."""
    return mask_logits.sigmoid() if mask_logits.shape[1] == 1 else mask_logits.softmax(1)


def mask_probs_to_logits(mask_probs: Tensor) -> Tensor:
    """The way back, up to a constant per pixel where M >= 2."""
    return mask_probs.logit(eps=1e-7) if mask_probs.shape[1] == 1 else mask_probs.clamp_min(1e-7).log()


def predict_views(
    forward: Callable[[Tensor], NetworkOutputs], images: Tensor, views: Sequence[View], temperature: float
) -> NetworkOutputs:
    """What all views together say of images (B, 3, h, w), as logits; attention: the mean.

    temperature: class probabilities are softmax(logits / temperature), which the result keeps to.
    """
    if len(views) == 1:
        return forward(images)
    size = (images.shape[-2], images.shape[-1])
    class_probs, mask_probs, attention = RunningMean(), RunningMean(), RunningMean()
    for view in views:
        outputs = forward(view.apply(images))
        if outputs.class_logits is not None:
            class_probs.add((outputs.class_logits / temperature).softmax(1))
        if outputs.mask_logits is not None:
            mask_probs.add(view.invert(mask_logits_to_probs(outputs.mask_logits), size))
        if outputs.attention is not None:
            attention.add(view.invert(outputs.attention, attention_size(size)))
    return NetworkOutputs(
        None if class_probs.value is None else temperature * class_probs.value.log(),
        None if mask_probs.value is None else mask_probs_to_logits(mask_probs.value),
        attention.value,
    )


def mask_probs_to_classes(mask_probs: Tensor) -> Tensor:
    """Each pixel's most probable class: probabilities (M, h, w) -> (h, w); M = 1: whether it is likelier than not."""
    return mask_probs[0] > 0.5 if len(mask_probs) == 1 else mask_probs.argmax(0)


def attention_size(size: tuple[int, int]) -> tuple[int, int]:
    """How many cells of attention an input of (h, w) has."""
    return -(-size[0] // _CELL_PX), -(-size[1] // _CELL_PX)


class RunningMean:
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
