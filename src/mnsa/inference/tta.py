"""Test-time augmentation: predict several views of an image and average their probabilities, not their logits.

B batch; h, w network input size; K classes; M mask classes; V views; E size of a class output.
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

CELL_PX = 32  # side of a cell of the attention map, in input pixels

_MIN_SIDE_PX = 32  # of a view

_EPSILON = 1e-7  # probabilities are kept this far from 0 and 1 before the logarithm


class View(NamedTuple):
    """A view of an image: flipped left to right or not, then rotated by multiples of 90 degrees, then resized."""

    hflip: bool = False
    rotations: int = 0
    scale: float = 1.0

    def apply(self, images: Tensor) -> Tensor:
        """Make this view of images (B, 3, h, w)."""
        moved = self.flip_rotate(images)
        if self.scale == 1:
            return moved
        size = [max(_MIN_SIDE_PX, round(side * self.scale)) for side in moved.shape[-2:]]
        return F.interpolate(moved, size, mode="bilinear", antialias=True)

    def flip_rotate(self, maps: Tensor) -> Tensor:
        """Flip and rotate maps (..., h, w); no pixel value changes."""
        return torch.rot90(maps.flip(-1) if self.hflip else maps, self.rotations, (-2, -1))

    def invert(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Map the network's outputs (B, M, ...) for this view back to the image, at `size` (h, w).

        Flips and rotations are inverted exactly; the scale by bilinear interpolation.
        """
        moved_size = size[::-1] if self.rotations % 2 else size
        if maps.shape[-2:] != moved_size:
            maps = F.interpolate(maps, moved_size, mode="bilinear")
        restored = torch.rot90(maps, -self.rotations, (-2, -1))
        return restored.flip(-1) if self.hflip else restored


class ViewOutputs(NamedTuple):
    """The outputs for all views. A network without a task, or without attention, leaves its field None.

    class_outputs: (V, B, E), one per view. mask_probs: probabilities (B, M, h, w), the mean over the views.
    attention: (B, 1, h/32, w/32), the mean over the views.
    """

    class_outputs: Tensor | None
    mask_probs: Tensor | None
    attention: Tensor | None


class AveragedOutputs(NamedTuple):
    """One prediction from all views: class_probs (B, K); mask_logits (B, M, h, w); attention (B, 1, h/32, w/32)."""

    class_probs: Tensor | None
    mask_logits: Tensor | None
    attention: Tensor | None


def build_views(augmentations: Iterable[str], *, allow_quarter_turns: bool) -> tuple[View, ...]:
    """Build the views of the chosen AUGMENTATIONS; the first is the image itself.

    flips: left to right and upside down. rot90: rotations by 90 degrees. scales: TTA_SCALES.
    allow_quarter_turns: False limits `rot90` to 180 degrees, for inputs whose width and height differ.
    Raises: ConfigError for an unknown augmentation.
    """
    chosen = set(augmentations)
    if unknown := sorted(chosen - set(AUGMENTATIONS)):
        raise ConfigError(f"There is no augmentation {unknown[0]!r}. Expected some of {', '.join(AUGMENTATIONS)}.")
    flips = [(False, 0), (True, 0), (True, 2), (False, 2)] if "flips" in chosen else [(False, 0)]
    rot90 = range(0, 4, 1 if allow_quarter_turns else 2) if "rot90" in chosen else (0,)
    scales = sorted(TTA_SCALES, key=lambda scale: abs(scale - 1)) if "scales" in chosen else (1.0,)
    # Several combinations of flip and rotation give the same view; each view is used once.
    moves = dict.fromkeys((hflip, (half_turn + turn) % 4) for (hflip, half_turn), turn in product(flips, rot90))
    return tuple(View(hflip, rotations, scale) for scale in scales for hflip, rotations in moves)


def collect_views(
    forward: Callable[[View], NetworkOutputs], views: Sequence[View], size: tuple[int, int]
) -> ViewOutputs:
    """Run the network on every view and average what has a place in the image.

    forward: the network's outputs for a view; `class_logits` may be any class output (B, E). size: (h, w) of the image
    that the views were made of.
    """
    class_outputs, mask_probs, attention = list[Tensor](), RunningMean(), RunningMean()
    for view in views:
        outputs = forward(view)
        if outputs.class_logits is not None:
            class_outputs.append(outputs.class_logits)
        if outputs.mask_logits is not None:
            mask_probs.add(view.invert(mask_logits_to_probs(outputs.mask_logits), size))
        if outputs.attention is not None:
            attention.add(view.invert(outputs.attention, attention_size(size)))
    stacked = torch.stack(class_outputs) if class_outputs else None
    return ViewOutputs(stacked, mask_probs.value, attention.value)


def predict_views(
    forward: Callable[[Tensor], NetworkOutputs], images: Tensor, views: Sequence[View], temperature: float
) -> AveragedOutputs:
    """Predict images (B, 3, h, w) in all views and average the probabilities.

    temperature: class probabilities are softmax(logits / temperature). The mask logits of one view are the network's
    own; of several views they are the logarithm of the mean probabilities.
    """
    if len(views) == 1:
        outputs = forward(views[0].apply(images))
        class_logits, mask_logits, attention = outputs
        class_probs = None if class_logits is None else average_class_probs(class_logits[None], temperature)
        return AveragedOutputs(class_probs, mask_logits, attention)
    found = collect_views(lambda view: forward(view.apply(images)), views, (images.shape[-2], images.shape[-1]))
    return AveragedOutputs(
        None if found.class_outputs is None else average_class_probs(found.class_outputs, temperature),
        None if found.mask_probs is None else mask_probs_to_logits(found.mask_probs),
        found.attention,
    )


def average_class_probs(class_logits: Tensor, temperature: float) -> Tensor:
    """Average softmax(logits / temperature) over the views: (V, B, K) -> (B, K)."""
    return (class_logits / temperature).softmax(-1).mean(0)


def mask_logits_to_probs(mask_logits: Tensor) -> Tensor:
    """Convert logits (B, M, h, w) to probabilities: a sigmoid for M = 1, a softmax over the classes for M >= 2."""
    return mask_logits.sigmoid() if mask_logits.shape[1] == 1 else mask_logits.softmax(1)


def mask_probs_to_logits(mask_probs: Tensor) -> Tensor:
    """Convert probabilities (B, M, h, w) to logits; for M >= 2 up to a constant per pixel."""
    return mask_probs.logit(eps=_EPSILON) if mask_probs.shape[1] == 1 else mask_probs.clamp_min(_EPSILON).log()


def attention_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (rows, columns) of the attention map of an input of size (h, w)."""
    return -(-size[0] // CELL_PX), -(-size[1] // CELL_PX)


class RunningMean:
    """A weighted mean of tensors of one shape that are added one by one."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._total_weight = 0.0

    def add(self, value: Tensor, weight: float = 1.0) -> None:
        """Add a tensor with its weight."""
        self._sum = value * weight if self._sum is None else self._sum + value * weight
        self._total_weight += weight

    @property
    def value(self) -> Tensor | None:
        """The mean so far; None before the first tensor."""
        return None if self._sum is None else self._sum / self._total_weight
