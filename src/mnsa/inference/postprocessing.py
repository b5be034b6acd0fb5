"""From mask probabilities to a mask: the threshold, and what is done to each class after it.

M mask classes; D maps that are needed to make a mask; H, W image size in pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from mnsa.config import DataConfig
from mnsa.inference.repair import EIGHT, Repair, add_connected
from mnsa.inference.tta import mask_logits_to_probs, mask_probs_to_logits
from mnsa.model.heads import resize_and_decide


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_probability(name: str, value: object) -> None:
    if not (_is_number(value) and 0 < value < 1):  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r}, not a number between 0 and 1")


@dataclass(frozen=True, slots=True)
class ClassPostprocessing:
    """What is done to the mask of one class, in this order.

    low_threshold: pixels of a higher probability get the class where they are connected with pixels that have it
    (hysteresis, Canny 1986); None: no pixels. repair: closes gaps along paths of high probability; None: does not.
    min_hole_px: smaller holes get the class. min_area_px: smaller pieces lose it. Areas are in pixels of the network's
    input. Pieces are 8-connected, holes 4-connected and not at the border of the image.
    Raises: ValueError for values out of range.
    """

    low_threshold: float | None = None
    repair: Repair | None = None
    min_hole_px: float = 0.0
    min_area_px: float = 0.0

    def __post_init__(self) -> None:
        if self.low_threshold is not None:
            _require_probability("low_threshold", self.low_threshold)
        for name in ("min_hole_px", "min_area_px"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise ValueError(f"{name} is {value!r}, not a number of 0 or more")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Make it of parsed JSON. Raises: ValueError, TypeError or AttributeError when it is not valid."""
        repair = values.get("repair")
        return cls(**{**values, "repair": None if repair is None else Repair(**repair)})

    def refine(self, chosen: np.ndarray, probs: np.ndarray, scale: float) -> np.ndarray:
        """Refine the mask of a class; all arrays are (H, W).

        chosen: bool, the pixels of the class. probs: uint8, its probability times 255. scale: pixels of the image per
        pixel of the network's input, along a side.
        """
        if self.low_threshold is not None:
            chosen = add_connected(chosen, probs > 255 * self.low_threshold)
        if self.repair is not None:
            chosen = self.repair.close_gaps(chosen, probs)
        chosen = fill_small_holes(chosen, self.min_hole_px * scale**2)
        return remove_small_pieces(chosen, self.min_area_px * scale**2)


_NO_CHANGE = ClassPostprocessing()


@dataclass(frozen=True, slots=True)
class Postprocessing:
    """How a mask is made of probabilities. By default each pixel gets its most probable class.

    threshold: with one mask class, the probability above which a pixel has it. bias: with several, what is added to the
    logits of each before the largest is taken; () adds nothing. classes: what is done to a mask class afterwards, by
    name. Raises: ValueError for values out of range.
    """

    threshold: float = 0.5
    bias: tuple[float, ...] = ()
    classes: Mapping[str, ClassPostprocessing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_probability("threshold", self.threshold)
        if not all(map(_is_number, self.bias)):
            raise ValueError(f"bias is {self.bias}, not a list of numbers")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Make it of parsed JSON. Raises: ValueError, KeyError, TypeError or AttributeError when it is not valid."""
        classes = {name: ClassPostprocessing.from_dict(one) for name, one in values["classes"].items()}
        return cls(**{**values, "bias": tuple(values["bias"]), "classes": classes})

    def require_classes(self, mask_classes: Sequence[str]) -> None:
        """Check that it fits a network with these mask classes. Raises: ValueError."""
        if unknown := [name for name in self.classes if name not in mask_classes]:
            raise ValueError(f"there is no mask class {unknown[0]!r}")
        if self.bias and (len(self.bias) != len(mask_classes) or len(mask_classes) == 1):
            raise ValueError(f"bias has {len(self.bias)} values for {len(mask_classes)} mask classes")


class MaskMaker:
    """Makes masks of logits or probabilities, in two steps: pixel by pixel, then the whole image.

    mask_classes: names, in the order of the logits. data: the transform of the network's input.
    """

    def __init__(self, postprocessing: Postprocessing, mask_classes: Sequence[str], data: DataConfig) -> None:
        self.postprocessing, self.mask_classes, self.data = postprocessing, mask_classes, data
        first = 1 if len(mask_classes) == 1 else 0  # the value of the first class in a mask
        self._refined = [
            (value, value - first, postprocessing.classes[name])
            for value, name in enumerate(mask_classes, first)
            if postprocessing.classes.get(name, _NO_CHANGE) != _NO_CHANGE
        ]
        self._keeps_scale, self._input_px = data.resize_mode == "crop", math.prod(data.size)
        threshold = postprocessing.threshold
        self._logit = math.log(threshold / (1 - threshold))  # exactly 0 for 0.5
        self._bias = torch.tensor(postprocessing.bias)[:, None, None] if any(postprocessing.bias) else None

    def decide_at_size(self, mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (M, h, w) -> maps uint8 (D, H, W): the padding is cut off, or the resizing undone, then decided."""
        cropped = mask_logits[:, : size[0], : size[1]] if self._keeps_scale else mask_logits
        return resize_and_decide(cropped, size, self.decide_logits)

    def decide_logits(self, mask_logits: Tensor) -> Tensor:
        """Logits (M, h, w) -> uint8 (D, h, w): the mask, then 255 times the probability of each class to refine."""
        if self._bias is not None:
            mask_logits = mask_logits + self._bias.to(mask_logits)
        chosen = mask_logits[0] > self._logit if len(mask_logits) == 1 else mask_logits.argmax(0)
        return self._stack(chosen, mask_logits_to_probs(mask_logits[None])[0] if self._refined else mask_logits)

    def decide_probs(self, mask_probs: Tensor) -> Tensor:
        """Probabilities (M, h, w) -> the same as `decide_logits` of their logits."""
        if self._bias is not None:
            return self.decide_logits(mask_probs_to_logits(mask_probs[None])[0])
        single = len(mask_probs) == 1
        return self._stack(
            mask_probs[0] > self.postprocessing.threshold if single else mask_probs.argmax(0), mask_probs
        )

    def scale_of(self, size: tuple[int, int]) -> float:
        """Pixels of an image of (H, W) per pixel of the network's input, along a side."""
        return 1.0 if self._keeps_scale else math.sqrt(math.prod(size) / self._input_px)

    def finish(self, maps: Tensor, scale: float | None = None) -> np.ndarray:
        """Make the mask uint8 (H, W) of maps uint8 (D, H, W).

        scale: where the maps are a part of an image, that of the image (`scale_of`).
        """
        mask, *all_probs = maps.cpu().numpy()
        if scale is None:
            scale = self.scale_of(mask.shape)
        for (value, _, step), probs in zip(self._refined, all_probs, strict=True):
            before = mask == value
            after = step.refine(before, probs, scale)
            lost = before & ~after
            if lost.any():
                mask = np.where(lost, surrounding_class(mask, lost), mask)
            mask = np.where(after, np.uint8(value), mask)
        return np.asarray(mask)

    def _stack(self, chosen: Tensor, mask_probs: Tensor) -> Tensor:
        return torch.stack([chosen.to(torch.uint8), *(to_uint8(mask_probs[index]) for _, index, _ in self._refined)])


class ProbabilityMaker(MaskMaker):
    """Makes the probabilities instead of a mask: 255 times p, rounded, uint8 (M, H, W)."""

    @classmethod
    def replacing(cls, maker: MaskMaker) -> Self:
        """Make the probabilities that another maker decides by."""
        return cls(Postprocessing(), maker.mask_classes, maker.data)

    def decide_logits(self, mask_logits: Tensor) -> Tensor:
        """Logits (M, h, w) -> uint8 (M, h, w)."""
        return to_uint8(mask_logits_to_probs(mask_logits[None])[0])

    def decide_probs(self, mask_probs: Tensor) -> Tensor:
        """Probabilities (M, h, w) -> uint8 (M, h, w)."""
        return to_uint8(mask_probs)

    def finish(self, maps: Tensor, scale: float | None = None) -> np.ndarray:  # noqa: ARG002 - nothing is refined
        """Return the maps."""
        return np.asarray(maps.cpu().numpy())


def to_uint8(probs: Tensor) -> Tensor:
    """Probabilities times 255, rounded, as uint8."""
    return (probs * 255).round().to(torch.uint8)


def fill_small_holes(mask: np.ndarray, area_px: float) -> np.ndarray:
    """Fill the 4-connected holes of fewer than `area_px` pixels that do not touch the border; bool (H, W)."""
    if area_px <= 1:
        return mask
    labels, count = label(~mask)
    filled = np.bincount(labels.ravel(), minlength=count + 1) < area_px
    filled[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    filled[0] = True  # the mask itself
    return np.asarray(filled[labels])


def remove_small_pieces(mask: np.ndarray, area_px: float) -> np.ndarray:
    """Remove the 8-connected pieces of fewer than `area_px` pixels; bool (H, W)."""
    if area_px <= 1:
        return mask
    labels, count = label(mask, EIGHT)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= area_px
    kept[0] = False
    return np.asarray(kept[labels])


def surrounding_class(mask: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Find the most frequent class around each 8-connected piece: uint8 (H, W), 0 outside of pieces.

    mask: uint8 (H, W). pieces: bool (H, W). A piece that fills the image gets class 0.
    """
    labels, count = label(pieces, EIGHT)
    votes = np.zeros((count + 1, int(mask.max(initial=0)) + 1), dtype=np.int64)
    for axis in (0, 1):
        for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            near, far = (
                ((here, slice(None)), (there, slice(None)))
                if axis == 0
                else ((slice(None), here), (slice(None), there))
            )
            edge = pieces[near] & ~pieces[far]
            np.add.at(votes, (labels[near][edge], mask[far][edge]), 1)
    votes[0] = 0
    return np.asarray(votes.argmax(1).astype(np.uint8)[labels])
