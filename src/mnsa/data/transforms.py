"""From an image and its mask to a network input: torchvision v2 transforms for training and evaluation.

H, W image size; h, w network input size, in pixels. Random numbers come from torch's global generator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from mnsa.config import AugmentConfig, DataConfig
from mnsa.errors import ConfigError
from mnsa.own_parts import load_own_part
from mnsa.structures import IGNORE_INDEX

MIN_INPUT_PX = 32  # one cell of the network's deepest level

# Fill of pixels from outside the image, after a rotation or zoom: black in the image, unknown in the mask.
_BORDER_FILL: Mapping[type, int] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE_INDEX}


class Transform:
    """Transforms an image together with its mask, then the image alone.

    joint: steps for both. image_only: steps for the image; they must convert it to float32.
    """

    def __init__(self, joint: Sequence[v2.Transform], image_only: Sequence[v2.Transform]) -> None:
        self.joint = v2.Compose(joint)
        self.image_only = v2.Compose(image_only)

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform image uint8 (3, H, W) and mask uint8 (H, W) or None.

        Returns: image float32 (3, h, w) and mask int64 (h, w); without a mask, all pixels are IGNORE_INDEX.
        """
        if mask is None:
            joint_image = self.joint(tv_tensors.Image(image))
            joint_mask = torch.full(joint_image.shape[-2:], IGNORE_INDEX)
        else:
            joint_image, joint_mask = self.joint(tv_tensors.Image(image), tv_tensors.Mask(mask))
        network_input: Tensor = self.image_only(joint_image)
        return network_input.as_subclass(Tensor), joint_mask.as_subclass(Tensor).long()


def train_transform(data: DataConfig, augment: AugmentConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the transform of training, with augmentation. mean, std: per channel, for pixel values in 0..1.

    Raises: ConfigError when augment.rot90 is used with inputs that are not square.
    """
    if augment.rot90 and data.size[0] != data.size[1]:
        raise ConfigError(f"augment.rot90 needs square inputs, but data.size is {data.size}. Set it to 0.")
    resize = [ResizeTo(data.size)] if data.resize_mode == "resize" else [PadTo(data.size), v2.RandomCrop(data.size)]
    image_only = [*_normalize(mean, std), v2.RandomErasing(augment.random_erasing, scale=(0.02, 0.33))]
    changes = [*_geometric_transforms(augment), *_color_transforms(augment), *_POLICIES[augment.policy]()]
    changes += [load_own_part("augmentations", name)() for name in augment.own]
    return Transform([*resize, *changes], image_only)


def eval_transform(data: DataConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the transform of evaluation and prediction, without random steps.

    With resize_mode `crop`, the image keeps its size; sides below MIN_INPUT_PX are padded as in training.
    """
    resize = ResizeTo(data.size) if data.resize_mode == "resize" else PadTo((MIN_INPUT_PX, MIN_INPUT_PX))
    return Transform([resize], _normalize(mean, std))


def center_crop_transform(data: DataConfig, mean: Sequence[float], std: Sequence[float]) -> Transform:
    """Build the evaluation transform of the upstream code: zero padding and center crop. Source: method section 2."""
    resize = [ResizeTo(data.size)] if data.resize_mode == "resize" else [PadTo(data.size), v2.CenterCrop(data.size)]
    return Transform(resize, _normalize(mean, std))


class ResizeTo(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Resizes to (h, w): images bilinear with antialiasing, masks by the nearest pixel center.

    v2.Resize takes the nearest corner instead, which shifts a mask by up to half a pixel against its image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = list(size)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Resize an image or a mask."""
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.Mask(F.resize_image(inpt[None], self.size, InterpolationMode.NEAREST_EXACT)[0])
        return F.resize(inpt, self.size, InterpolationMode.BILINEAR, antialias=True)


class PadTo(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Pads with 0 at the right and at the bottom to at least (h, w). Source: method section 2."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Pad an image or a mask."""
        height, width = inpt.shape[-2:]
        return F.pad(inpt, [0, 0, max(0, self.size[1] - width), max(0, self.size[0] - height)])


class RandomRot90(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Rotates by 90, 180 or 270 degrees, without interpolation."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Draw the number of rotations by 90 degrees."""
        return {"k": int(torch.randint(1, 4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Rotate an image or a mask."""
        return tv_tensors.wrap(torch.rot90(inpt, params["k"], dims=(-2, -1)), like=inpt)


class _WithMask:
    """Lets a policy of torchvision, which takes images alone, shear, move and rotate the mask with its image."""

    def __init__(self) -> None:
        super().__init__(interpolation=InterpolationMode.BILINEAR, fill=_BORDER_FILL)  # type: ignore[call-arg]

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask | None = None) -> Any:
        """Transform an image (3, H, W) and its mask (H, W), or an image alone."""
        self.mask = mask
        image = super().forward(image)  # type: ignore[misc]
        return image if mask is None else (image, self.mask)

    def _apply_image_or_video_transform(self, image: Any, transform_id: str, magnitude: float, **options: Any) -> Any:
        apply = super()._apply_image_or_video_transform  # type: ignore[misc]
        if self.mask is not None and transform_id in _MOVING_OPERATIONS:
            mask = apply(tv_tensors.Mask(self.mask[None]), transform_id, magnitude, **options)
            self.mask = tv_tensors.Mask(mask[0])
        return apply(image, transform_id, magnitude, **options)


class _TrivialAugment(_WithMask, v2.TrivialAugmentWide):  # type: ignore[misc]  # torchvision has no types
    pass


class _RandAugment(_WithMask, v2.RandAugment):  # type: ignore[misc]
    pass


_MOVING_OPERATIONS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_POLICIES: Mapping[str, Callable[[], list[v2.Transform]]] = {
    "none": list, "trivial": lambda: [_TrivialAugment()], "rand": lambda: [_RandAugment()],
}  # fmt: skip


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
        bilinear = InterpolationMode.BILINEAR  # for images; masks always use the nearest pixel
        steps.append(v2.RandomAffine(augment.rotation_deg, scale=scale, interpolation=bilinear, fill=_BORDER_FILL))
    return steps


def _color_transforms(augment: AugmentConfig) -> list[v2.Transform]:
    strength, hue = augment.color_jitter, augment.hue
    if not (strength or hue):
        return []
    return [v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength, hue=hue)]


def _normalize(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
