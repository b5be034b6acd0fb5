"""From an image and its mask to the network's input: torchvision v2 transforms for training and evaluation.

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
from mnsa.structures import IGNORE_INDEX

MIN_INPUT_PX = 32  # one cell of the network's deepest level

# What an image shows beyond its border is black; what its mask says there, nobody knows.
_BORDER_FILL: Mapping[type, int] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE_INDEX}


class Transform:
    """Moves an image and its mask together, then normalises the image.

    Takes image uint8 (3, H, W) and mask uint8 (H, W) or None; gives image float32 (3, h, w) and mask int64 (h, w),
    all NO_MASK where no mask was given.
    """

    def __init__(self, joint: Sequence[v2.Transform], image_only: Sequence[v2.Transform]) -> None:
        self.joint = v2.Compose(joint)
        self.image_only = v2.Compose(image_only)

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply both halves; the second sees the image alone."""
        if mask is None:
            moved = self.joint(tv_tensors.Image(image))
            moved_mask = torch.full(moved.shape[-2:], IGNORE_INDEX)
        else:
            moved, moved_mask = self.joint(tv_tensors.Image(image), tv_tensors.Mask(mask))
        finished: Tensor = self.image_only(moved)
        return finished.as_subclass(Tensor), moved_mask.as_subclass(Tensor).long()


def train_transform(data: DataConfig, augment: AugmentConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the training recipe. mean, std: per channel, for values in 0..1.

    Raises: ConfigError for quarter turns of inputs that are not square.
    """
    if augment.rot90 and data.size[0] != data.size[1]:
        raise ConfigError(f"augment.rot90 needs square inputs, but data.size is {data.size}. Set it to 0.")
    resize = [ResizeTo(data.size)] if data.resize_mode == "resize" else [PadTo(data.size), v2.RandomCrop(data.size)]
    image_only = [*_normalize(mean, std), v2.RandomErasing(augment.random_erasing, scale=(0.02, 0.33))]
    return Transform([*resize, *_geometric_transforms(augment), *_color_transforms(augment)], image_only)


def eval_transform(data: DataConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the evaluation recipe: resizing without randomness.

    With resize_mode `crop` the image keeps its own size; one with a side under MIN_INPUT_PX is padded as in training.
    """
    resize = ResizeTo(data.size) if data.resize_mode == "resize" else PadTo((MIN_INPUT_PX, MIN_INPUT_PX))
    return Transform([resize], _normalize(mean, std))


def center_crop_transform(data: DataConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the released code's evaluation recipe: zero-padded, center crop. Source: method section 2."""
    resize = [ResizeTo(data.size)] if data.resize_mode == "resize" else [PadTo(data.size), v2.CenterCrop(data.size)]
    return Transform(resize, _normalize(mean, std))


class ResizeTo(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Resizes to (h, w): images bilinear with antialiasing, masks by the nearest pixel center.

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


class RandomRot90(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Rotates by 90, 180 or 270 degrees, without interpolation."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw the number of quarters."""
        return {"quarters": int(torch.randint(1, 4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Rotate one of the two."""
        return tv_tensors.wrap(torch.rot90(inpt, params["quarters"], dims=(-2, -1)), like=inpt)


def _geometric_transforms(augment: AugmentConfig) -> list[v2.Transform]:
    steps: list[v2.Transform] = []
    if augment.horizontal_flip:
        steps.append(v2.RandomHorizontalFlip(augment.horizontal_flip))
    if augment.vertical_flip:
        steps.append(v2.RandomVerticalFlip(augment.vertical_flip))
    if augment.rot90:
        steps.append(v2.RandomApply([RandomRot90()], augment.rot90))
    if augment.rotation_deg or augment.zoom:
        scale = (1 - augment.zoom, 1 + augment.zoom)
        bilinear = InterpolationMode.BILINEAR  # masks are always moved by the nearest pixel
        steps.append(v2.RandomAffine(augment.rotation_deg, scale=scale, interpolation=bilinear, fill=_BORDER_FILL))
    return steps


def _color_transforms(augment: AugmentConfig) -> list[v2.Transform]:
    share = augment.color_jitter
    return [v2.ColorJitter(brightness=share, contrast=share, saturation=share)] if share else []


def _normalize(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
