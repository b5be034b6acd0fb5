"""What one row's two files are, and what is wrong with them. Runs in other processes: no torch, and small answers.

H, W image size in pixels; M mask classes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.check.fingerprint import fingerprint
from mnsa.data.decoding import BadFileError, class_indices, opened, raw_mask, resolve_inside, upright_rgb
from mnsa.data.faults import Fault, OnFault

_ORIENTATION = 0x0112  # EXIF: 1 upright, 2 to 4 keep the size, 5 to 8 swap width and height
_FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}
_SAVE_RGB = "Save it as 8-bit RGB, the way you want it seen"


class Picture(NamedTuple):
    """An image that can be read. size: upright (W, H); stored: as the file has it; digest: SHA-256 of the file."""

    size: tuple[int, int]
    stored: tuple[int, int]
    orientation: int
    digest: bytes
    fingerprint: bytes


class Truth(NamedTuple):
    """A mask that can be read. size: upright (W, H); pixels: how many of each class, background first."""

    size: tuple[int, int]
    orientation: int
    digest: bytes
    pixels: tuple[int, ...]


class Seen(NamedTuple):
    """What came of looking at a row's files; None for one that is not there or can't be used."""

    picture: Picture | None
    truth: Truth | None
    faults: list[Fault]


def look(root: Path, mask_classes: int, names: tuple[str, str]) -> Seen:
    """Open, decode and judge an image and its mask, named as in the manifest; no mask: an empty name."""
    image, mask = names
    faults: list[Fault] = []
    picture = _picture(root, image, faults.append)
    truth = _truth(root, mask, mask_classes, faults.append) if mask and mask_classes else None
    if picture and truth:
        faults.extend(_misfits(image, mask, picture, truth))
    return Seen(picture, truth, faults)


def _picture(root: Path, name: str, on_fault: OnFault) -> Picture | None:
    try:
        path = resolve_inside(root, name)
        with opened(path) as image:
            for fault in [*_oddities(image, name), *_losses(image, name)]:
                on_fault(fault)
            stored, orientation = image.size, image.getexif().get(_ORIENTATION, 1)
            upright = upright_rgb(image, path)
            return Picture(upright.size, stored, orientation, _digest(path), fingerprint(upright).tobytes())
    except BadFileError as error:
        on_fault(Fault(error.kind, name, error.reason, error.fix))
        return None


def _truth(root: Path, name: str, mask_classes: int, on_fault: OnFault) -> Truth | None:
    try:
        path = resolve_inside(root, name)
        with opened(path) as image:
            for fault in _oddities(image, name):
                on_fault(fault)
            orientation = image.getexif().get(_ORIENTATION, 1)
            raw, digest = raw_mask(image, path), _digest(path)
        indices = class_indices(raw, mask_classes, path)
    except BadFileError as error:
        on_fault(Fault(error.kind, name, error.reason, error.fix))
        return None
    pixels = np.bincount(indices.ravel(), minlength=max(mask_classes, 2))
    if pixels.max() == indices.size:
        on_fault(_one_class_alone(name, int(pixels.argmax())))
    height, width = indices.shape
    return Truth((width, height), orientation, digest, tuple(pixels.tolist()))


def _one_class_alone(name: str, index: int) -> Fault:
    if index == 0:
        return Fault("mask-empty", name, "marks nothing", "Look whether the image shows nothing to mark")
    return Fault("mask-full", name, f"marks every pixel as class {index}", "Look whether it is the right mask")


def _oddities(image: Image.Image, name: str) -> Iterator[Fault]:
    suffix = Path(name).suffix.lower()
    form = "JPEG" if image.format == "MPO" else image.format  # a JPEG that brings a preview along
    if _FORMAT_OF_SUFFIX.get(suffix) != form:
        reason = f"is a {form} file, whatever its name says"
        yield Fault("wrong-extension", name, reason, "Rename it, so that every program reads it alike")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        reason = "holds several pictures, of which only the first is read"
        yield Fault("animated", name, reason, "Save the picture that is meant as a file of its own")


def _losses(image: Image.Image, name: str) -> Iterator[Fault]:
    """What is lost when the image becomes 8-bit RGB; palettes, greys and opaque alpha lose nothing."""
    if any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        yield Fault("lossy-mode", name, "has 16 bits per channel, of which 8 are kept", _SAVE_RGB)
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        yield Fault("lossy-mode", name, f"has {image.mode} colours, which become RGB by rule of thumb", _SAVE_RGB)
    sees_through = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255
    if sees_through:
        yield Fault("lossy-mode", name, "is see-through in places; what is hidden there will be seen", _SAVE_RGB)


def _misfits(image: str, mask: str, picture: Picture, truth: Truth) -> Iterator[Fault]:
    """Tell whether mask and image lie on each other, as far as their sizes and EXIF orientations say."""
    its_size = f"is {truth.size[0]} x {truth.size[1]} pixels"
    turned = f"which EXIF orientation {picture.orientation} turns"
    if truth.size != picture.size and truth.size == picture.stored:
        reason = f"{its_size}, as is its image {image} before it is turned, {turned}"
        fix = "Save the image upright without EXIF orientation, and turn the mask as the image"
        yield Fault("mask-rotation", mask, reason, fix)
    elif truth.size != picture.size:
        reason = f"{its_size}, but its image {image} is {picture.size[0]} x {picture.size[1]}"
        yield Fault("mask-size", mask, reason, "Make the mask anew at the image's own size")
    elif picture.orientation in range(2, 9) and truth.orientation == 1 and picture.stored == picture.size:
        reason = f"fits its image {image}, {turned}, upright and as stored; the file can't tell which is meant"
        fix = "Look at both (--sheet); save the image upright without EXIF orientation"
        yield Fault("mask-rotation-unclear", mask, reason, fix)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
