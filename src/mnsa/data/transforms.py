"""From an image and its mask to the network's input: torchvision v2 recipes for training and evaluation, side by side.

H, W image size; h, w network input size, in pixels. All randomness is drawn from torch's global generator.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from mnsa.config import AugmentConfig, DataConfig
from mnsa.errors import ConfigError
from mnsa.records import NO_MASK

LEAST_INPUT_PX = 32  # one cell of the network's deepest level
# What an image shows beyond its border is black; what its mask says there, nobody knows.
_BEYOND_BORDER: Mapping[type, int] = {tv_tensors.Image: 0, tv_tensors.Mask: NO_MASK}


class Transform:
    """Moves an image and its mask together, then normalises the image.

    Takes image uint8 (3, H, W) and mask uint8 (H, W) or None; gives image float32 (3, h, w) and mask int64 (h, w),
    all NO_MASK where no mask was given.
    """

    def __init__(self, together: Sequence[v2.Transform], finish: Sequence[v2.Transform]) -> None:
        self.together = v2.Compose(together)
        self.finish = v2.Compose(finish)

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply both halves; the second sees the image alone."""
        if mask is None:
            moved = self.together(tv_tensors.Image(image))
            moved_mask = torch.full(moved.shape[-2:], NO_MASK)
        else:
            moved, moved_mask = self.together(tv_tensors.Image(image), tv_tensors.Mask(mask))
        finished: Tensor = self.finish(moved)
        return finished.as_subclass(Tensor), moved_mask.as_subclass(Tensor).long()


def train_transform(data: DataConfig, augment: AugmentConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the training recipe. mean, std: per channel, for values in 0..1.

    Raises: ConfigError for quarter turns of inputs that are not square.
    """
    if augment.quarter_turn and data.size[0] != data.size[1]:
        raise ConfigError(f"augment.quarter_turn needs square inputs, but data.size is {data.size}. Set it to 0.")
    fit = [Stretch(data.size)] if data.fit == "stretch" else [PadTo(data.size), v2.RandomCrop(data.size)]
    finish = [*_normalise(mean, std), v2.RandomErasing(augment.erase, scale=(0.02, 0.33))]
    return Transform([*fit, *_geometry(augment), *_colour(augment)], finish)


def eval_transform(data: DataConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the evaluation recipe: the same fit without chance; with fit `crop` the whole image at its own size.

    There an image of fewer than LEAST_INPUT_PX a side is padded as in training.
    """
    fit = Stretch(data.size) if data.fit == "stretch" else PadTo((LEAST_INPUT_PX, LEAST_INPUT_PX))
    return Transform([fit], _normalise(mean, std))


def crop_transform(data: DataConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the released code's evaluation recipe: zero-padded, centre crop. Source: method section 2."""
    fit = [Stretch(data.size)] if data.fit == "stretch" else [PadTo(data.size), v2.CenterCrop(data.size)]
    return Transform(fit, _normalise(mean, std))


class Stretch(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Resizes to (h, w): images bilinear with antialiasing, masks by the nearest pixel centre.

    v2.Resize takes the nearest corner, which shifts a mask by up to half a pixel against its image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = list(size)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Resize one of the two."""
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.Mask(F.resize_image(inpt[None], self.size, InterpolationMode.NEAREST_EXACT)[0])
        return F.resize(inpt, self.size, InterpolationMode.BILINEAR, antialias=True)


class PadTo(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Zero-pads right and bottom until both sides reach (h, w). Source: method.md, section 2."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Pad one of the two."""
        height, width = inpt.shape[-2:]
        return F.pad(inpt, [0, 0, max(0, self.size[1] - width), max(0, self.size[0] - height)])


class QuarterTurn(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Rotates by 90, 180 or 270 degrees, without interpolation."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw the number of quarters."""
        return {"quarters": int(torch.randint(1, 4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Rotate one of the two."""
        return tv_tensors.wrap(torch.rot90(inpt, params["quarters"], dims=(-2, -1)), like=inpt)


def _geometry(augment: AugmentConfig) -> list[v2.Transform]:
    steps: list[v2.Transform] = []
    if augment.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(augment.horizontal_flip))
    if augment.vertical_flip:
        steps.append(v2.RandomVerticalFlip(augment.vertical_flip))
    if augment.quarter_turn:
        steps.append(v2.RandomApply([QuarterTurn()], augment.quarter_turn))
    if augment.rotation_deg or augment.zoom:
        scale = (1 - augment.zoom, 1 + augment.zoom)
        bilinear = InterpolationMode.BILINEAR  # masks are always moved by the nearest pixel
        steps.append(v2.RandomAffine(augment.rotation_deg, scale=scale, interpolation=bilinear, fill=_BEYOND_BORDER))
    return steps


def _colour(augment: AugmentConfig) -> list[v2.Transform]:
    share = augment.colour
    return [v2.ColorJitter(brightness=share, contrast=share, saturation=share)] if share else []


def _normalise(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
