"""The kinds of images that `Predictor.predict` takes, converted to one.

H, W image size in pixels.
"""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnsa.data.decode import read_image, to_upright_rgb
from mnsa.errors import DataError

ImageInput: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor


def to_image_tensor(image: ImageInput) -> Tensor:
    """Convert an image to a tensor uint8 (3, H, W), RGB, on the CPU.

    image: a path; a PIL image; a NumPy array uint8 (H, W, 3) or a tensor uint8 (3, H, W), both RGB. Files and PIL
    images are turned upright by their EXIF data and converted to RGB.
    Raises: DataError for a file that can't be read, and for another type, shape or dtype.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _to_tensor(np.asarray(to_upright_rgb(image, Path(image_name(image) or "image"))))
    if isinstance(image, np.ndarray):
        _require_shape("array", image.shape, str(image.dtype), channels_last=True)
        return _to_tensor(image)
    if isinstance(image, Tensor):
        _require_shape("tensor", tuple(image.shape), str(image.dtype).removeprefix("torch."), channels_last=False)
        return image.detach().cpu()
    raise DataError(
        f"The image is a {type(image).__name__}; expected a path, a PIL image, an array uint8 (H, W, 3) or a tensor "
        "uint8 (3, H, W)."
    )


def image_name(image: ImageInput) -> str:
    """The path of a file, also of one that PIL opened; empty for pixels without a file."""
    if isinstance(image, str | Path):
        return str(image)
    return str(getattr(image, "filename", "") or "")


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """Copy pixels uint8 (H, W, 3) to a tensor (3, H, W)."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _require_shape(kind: str, shape: tuple[int, ...], dtype: str, *, channels_last: bool) -> None:
    """Do nothing for an RGB image of 8 bits per channel.

    Raises: DataError that names shape and dtype, and the remedy.
    """
    expected = "(H, W, 3)" if channels_last else "(3, H, W)"
    if len(shape) != 3 or shape[-1 if channels_last else 0] != 3:
        remedy = f"Give RGB images one by one, as {expected}; several images as a list."
        if len(shape) == 3 and shape[0 if channels_last else -1] == 3:
            move = "array.transpose(1, 2, 0)" if channels_last else "tensor.permute(2, 0, 1)"
            remedy = f"Move the channels: {move}."
        raise DataError(f"The image {kind} has shape {shape}; expected {expected}. {remedy}")
    if dtype != "uint8":
        raise DataError(
            f"The image {kind} has dtype {dtype}; expected uint8 with values 0 to 255. "
            "Don't normalize it: the predictor does."
        )
