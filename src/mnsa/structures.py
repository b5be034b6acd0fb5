"""Data structures that several packages use, with their shapes.

B batch; H, W image size in pixels; h, w network input size; K classes; M mask classes; C_l channels of level l.
"""

from __future__ import annotations  # torch is only in annotations, so that importing this module doesn't load it

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from torch import Tensor


NO_LABEL = -1  # label of an image of unknown class, which is used for segmentation only

UNKNOWN = "unknown"  # the predicted class where the highest probability is below the threshold; no class may have it

IGNORE_INDEX = 255  # mask value of a pixel of unknown class, which is ignored in losses and scores


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label and mask, as read from disk.

    image: uint8 (3, H, W), RGB. mask: uint8 (H, W), class indices, or None. label: class index, or NO_LABEL.
    group: images of one plant share it, so they are not independent; None: the image is a group by itself.
    """

    path: str
    image: Tensor
    mask: Tensor | None
    label: int
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A training batch: images (B, 3, h, w) float, normalized; masks (B, h, w) int64; labels (B,) int64.

    centerlines: bool (B, h, w), the centerlines of the thin mask classes; None when no loss needs them. The class of a
    centerline is that of the mask. label_shares (B, K), mask_shares (B, M, h, w): shares of the classes in blended
    images, 0..1, in place of labels and masks; a mask then still has IGNORE_INDEX where it is unknown.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    centerlines: Tensor | None = None
    label_shares: Tensor | None = None
    mask_shares: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`. Lightning calls this."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def split(self, parts: int, smallest: int = 1) -> list[Batch]:
        """Divide the images into parts of equal size, or nearly; into fewer, if one had less than `smallest` images."""
        parts = max(1, min(parts, len(self.images) // smallest))
        if parts == 1:
            return [self]

        def take(n: int) -> Batch:
            return self._map(lambda tensor: tensor.tensor_split(parts)[n])

        return [take(n) for n in range(parts)]

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch of changed tensors; None stays None."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items() if tensor is not None})


class FeaturePyramid(NamedTuple):
    """The backbone's five feature maps: level l is (B, C_l, H/2^l, W/2^l)."""

    level1: Tensor
    level2: Tensor
    level3: Tensor
    level4: Tensor
    level5: Tensor


class NetworkOutputs(NamedTuple):
    """The outputs of a network: class_logits (B, K); mask_logits (B, M, H, W); attention (B, 1, H/32, W/32) in 0..1.

    A field is None if the network has no class head, no decoder, or attention `none`.
    """

    class_logits: Tensor | None
    mask_logits: Tensor | None
    attention: Tensor | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one image, at the size of the image.

    class_probs: float32 (K,), sums to 1, or None. mask: uint8 (H, W), class indices, or None.
    attention: float32 (h, w) in 0..1, or None.
    grad_cam: Grad-CAM of the most probable class, float32 (h, w), 0 or more, or None.
    scale, confidence, warning: of a predictor with a `scale`: the factor by which the image was resized for the
    network, its confidence in the veins, 0..1, and a warning, or empty text. Else None and empty text.
    """

    path: str
    class_probs: np.ndarray | None
    mask: np.ndarray | None
    attention: np.ndarray | None
    grad_cam: np.ndarray | None = None
    scale: float | None = None
    confidence: float | None = None
    warning: str = ""
