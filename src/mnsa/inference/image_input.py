"""The kinds of images that `Predictor.predict` and `predict_files` take, converted to one.

H, W image size in pixels.
"""

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mnsa.data.decode import read_image, to_upright_rgb
from mnsa.data.image_source import ImageSource, PixelImage, is_url, to_source
from mnsa.data.paths import find_sources
from mnsa.errors import DataError

ImageInput: TypeAlias = str | PathLike[str] | Image.Image | np.ndarray | Tensor

_EXPECTED = (
    "a path, a folder, a glob or an address (https://...) as text, a PIL image, an array (H, W, 3), "
    "a tensor (3, H, W), or a list of them"
)

_FLOAT_DTYPES = ("float16", "float32", "float64")


def to_image_tensor(image: ImageInput) -> Tensor:
    """Convert an image to a tensor uint8 (3, H, W), RGB, on the CPU.

    image: a path or an address; a PIL image; a NumPy array (H, W, 3) or a tensor (3, H, W), both RGB: uint8, or floats
    from 0 to 1. Files and PIL images are turned upright by their EXIF data and converted to RGB.
    Raises: DataError for a file that can't be read, and for another type, shape, dtype or range.
    """
    if isinstance(image, str | PathLike):
        path = Path(image)
        return read_image(path if path.is_file() else to_source(fspath(image)))
    if isinstance(image, Image.Image):
        return _to_tensor(np.asarray(to_upright_rgb(image, image_name(image) or "image")))
    if isinstance(image, np.ndarray):
        _require_shape("array", image.shape, channels_last=True)
        return _to_tensor(_to_uint8("array", image))
    if isinstance(image, Tensor):
        _require_shape("tensor", tuple(image.shape), channels_last=False)
        pixels = image.detach().cpu()
        plain = pixels.float() if pixels.is_floating_point() else pixels  # NumPy has no bfloat16
        return torch.from_numpy(_to_uint8("tensor", plain.numpy()))
    raise DataError(f"The image is a {type(image).__name__}; expected {_EXPECTED}.")


def is_several(images: object) -> bool:
    """Whether an input of `predict` means a list of images: a list or another iterable of them, a folder, or a glob."""
    if isinstance(images, str | PathLike):
        text = fspath(images)
        if Path(text).is_file() or is_url(text):
            return False
        return Path(text).is_dir() or any(c in text for c in "*?[")
    return isinstance(images, Iterable) and not isinstance(images, Mapping | bytes | Image.Image | np.ndarray | Tensor)


def iter_images(images: ImageInput | Iterable[ImageInput]) -> Iterator[ImageInput]:
    """Yield one image after the other, with those of folders and globs. Raises: DataError as `find_sources`."""
    if not is_several(images):
        yield images  # type: ignore[misc]
    elif isinstance(images, str | PathLike):
        yield from map(str, find_sources([fspath(images)]))
    else:
        for image in images:  # type: ignore[union-attr]
            if is_several(image) and not isinstance(image, str | PathLike):
                raise DataError(f"An image of the list is a {type(image).__name__}; expected {_EXPECTED}.")
            yield from iter_images(image)


def to_sources(images: ImageInput | Iterable[ImageInput], exclude: Path | None) -> list[ImageSource]:
    """List what `predict_files` reads. An image in memory without a file name gets one by its number: `image_0001`.

    exclude: as in `find_sources`. Raises: DataError, as `to_image_tensor`, for images in memory that can't be used.
    """
    found: dict[ImageSource, None] = {}
    items = [images] if isinstance(images, str | PathLike) or not is_several(images) else images
    for number, image in enumerate(items, 1):  # type: ignore[arg-type]
        if isinstance(image, str | PathLike):
            found.update(dict.fromkeys(find_sources([fspath(image)], exclude=exclude)))
        else:
            pixels = Image.fromarray(to_image_tensor(image).permute(1, 2, 0).numpy())
            found[PixelImage(image_name(image) or f"image_{number:04}", pixels)] = None
    return list(found)


def image_name(image: ImageInput) -> str:
    """The path of a file, also of one that PIL opened; empty for pixels without a file."""
    if isinstance(image, str | PathLike):
        return fspath(image)
    return str(getattr(image, "filename", "") or "")


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """Copy pixels uint8 (H, W, 3) to a tensor (3, H, W)."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _require_shape(kind: str, shape: tuple[int, ...], *, channels_last: bool) -> None:
    """Do nothing for the shape of an RGB image. Raises: DataError that names the shape and the remedy."""
    expected = "(H, W, 3)" if channels_last else "(3, H, W)"
    if len(shape) != 3 or shape[-1 if channels_last else 0] != 3:
        remedy = f"Give RGB images one by one, as {expected}; several images as a list."
        if len(shape) == 3 and shape[0 if channels_last else -1] == 3:
            move = "array.transpose(1, 2, 0)" if channels_last else "tensor.permute(2, 0, 1)"
            remedy = f"Move the channels: {move}."
        raise DataError(f"The image {kind} has shape {shape}; expected {expected}. {remedy}")


def _to_uint8(kind: str, pixels: np.ndarray) -> np.ndarray:
    """Return pixels as uint8: floats from 0 to 1 times 255. Raises: DataError for another dtype or range."""
    if pixels.dtype == np.uint8:
        return pixels
    if str(pixels.dtype) not in _FLOAT_DTYPES:
        raise DataError(f"The image {kind} has dtype {pixels.dtype}; expected uint8, or floats from 0 to 1.")
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"The image {kind} has floats from {low:.4g} to {high:.4g}; expected 0 to 1, or uint8 from 0 to 255. "
            "Don't normalize it: the predictor does."
        )
    scaled: np.ndarray = (pixels * 255).round().astype(np.uint8)
    return scaled
