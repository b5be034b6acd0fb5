"""Inspect the image and the mask of one row. Runs in other processes: no torch, and small results.

H, W image size in pixels; M mask classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.decode import (
    BadFileError,
    open_image,
    read_mask_values,
    resolve_inside,
    to_class_indices,
    to_upright_rgb,
)
from mnsa.data.findings import Finding, OnFinding
from mnsa.data.validation.perceptual_hash import perceptual_hash
from mnsa.io import sha256_file

_EXIF_ORIENTATION = 0x0112  # EXIF: 1 upright, 2 to 4 keep the size, 5 to 8 swap width and height

_FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}

_FIX_SAVE_RGB = "Save it as 8-bit RGB, the way you want it seen"


class ImageInfo(NamedTuple):
    """An image that can be read. size: upright (W, H); stored_size: as the file has it; digest: SHA-256 of the file."""

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int
    digest: bytes
    perceptual_hash: bytes


class MaskInfo(NamedTuple):
    """A mask that can be read. size: upright (W, H); pixels: how many of each class, background first."""

    size: tuple[int, int]
    orientation: int
    digest: bytes
    pixels: tuple[int, ...]


class Inspection(NamedTuple):
    """What came of looking at a row's files; None for one that is not there or can't be used."""

    image: ImageInfo | None
    mask: MaskInfo | None
    findings: list[Finding]


def inspect_files(root: Path, mask_classes: int, names: tuple[str, str]) -> Inspection:
    """Open, decode and judge an image and its mask, named as in the manifest; no mask: an empty name."""
    image, mask = names
    findings: list[Finding] = []
    picture = _inspect_image(root, image, findings.append)
    truth = _inspect_mask(root, mask, mask_classes, findings.append) if mask and mask_classes else None
    if picture and truth:
        findings.extend(_alignment_findings(image, mask, picture, truth))
    return Inspection(picture, truth, findings)


def _inspect_image(root: Path, name: str, on_finding: OnFinding) -> ImageInfo | None:
    try:
        path = resolve_inside(root, name)
        with open_image(path) as image:
            for finding in [*_file_findings(image, name), *_lossy_findings(image, name)]:
                on_finding(finding)
            stored, orientation = image.size, image.getexif().get(_EXIF_ORIENTATION, 1)
            upright = to_upright_rgb(image, path)
            return ImageInfo(
                upright.size, stored, orientation, bytes.fromhex(sha256_file(path)), perceptual_hash(upright).tobytes()
            )
    except BadFileError as error:
        on_finding(Finding(error.kind, name, error.reason, error.fix))
        return None


def _inspect_mask(root: Path, name: str, mask_classes: int, on_finding: OnFinding) -> MaskInfo | None:
    try:
        path = resolve_inside(root, name)
        with open_image(path) as image:
            for finding in _file_findings(image, name):
                on_finding(finding)
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            raw, digest = read_mask_values(image, path), bytes.fromhex(sha256_file(path))
        indices = to_class_indices(raw, mask_classes, path)
    except BadFileError as error:
        on_finding(Finding(error.kind, name, error.reason, error.fix))
        return None
    pixels = np.bincount(indices.ravel(), minlength=max(mask_classes, 2))
    if pixels.max() == indices.size:
        on_finding(_single_class_finding(name, int(pixels.argmax())))
    height, width = indices.shape
    return MaskInfo((width, height), orientation, digest, tuple(pixels.tolist()))


def _single_class_finding(name: str, index: int) -> Finding:
    if index == 0:
        return Finding("mask-empty", name, "marks nothing", "Look whether the image shows nothing to mark")
    return Finding("mask-full", name, f"marks every pixel as class {index}", "Look whether it is the right mask")


def _file_findings(image: Image.Image, name: str) -> Iterator[Finding]:
    suffix = Path(name).suffix.lower()
    form = "JPEG" if image.format == "MPO" else image.format  # a JPEG that brings a preview along
    if _FORMAT_OF_SUFFIX.get(suffix) != form:
        reason = f"is a {form} file, whatever its name says"
        yield Finding("wrong-extension", name, reason, "Rename it, so that every program reads it alike")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        reason = "holds several pictures, of which only the first is read"
        yield Finding("animated", name, reason, "Save the picture that is meant as a file of its own")


def _lossy_findings(image: Image.Image, name: str) -> Iterator[Finding]:
    """What is lost when the image becomes 8-bit RGB; palettes, grays and opaque alpha lose nothing."""
    if any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        yield Finding("lossy-mode", name, "has 16 bits per channel, of which 8 are kept", _FIX_SAVE_RGB)
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        yield Finding("lossy-mode", name, f"has {image.mode} colors, which become RGB by rule of thumb", _FIX_SAVE_RGB)
    sees_through = image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255
    if sees_through:
        yield Finding("lossy-mode", name, "is see-through in places; what is hidden there will be seen", _FIX_SAVE_RGB)


def _alignment_findings(image: str, mask: str, picture: ImageInfo, truth: MaskInfo) -> Iterator[Finding]:
    """Tell whether mask and image lie on each other, as far as their sizes and EXIF orientations say."""
    its_size = f"is {truth.size[0]} x {truth.size[1]} pixels"
    turned = f"which EXIF orientation {picture.orientation} turns"
    if truth.size != picture.size and truth.size == picture.stored_size:
        reason = f"{its_size}, as is its image {image} before it is turned, {turned}"
        fix = "Save the image upright without EXIF orientation, and turn the mask as the image"
        yield Finding("mask-rotation", mask, reason, fix)
    elif truth.size != picture.size:
        reason = f"{its_size}, but its image {image} is {picture.size[0]} x {picture.size[1]}"
        yield Finding("mask-size", mask, reason, "Make the mask anew at the image's own size")
    elif picture.orientation in range(2, 9) and truth.orientation == 1 and picture.stored_size == picture.size:
        reason = f"fits its image {image}, {turned}, upright and as stored; the file can't tell which is meant"
        fix = "Look at both (--contact-sheet); save the image upright without EXIF orientation"
        yield Finding("mask-rotation-unclear", mask, reason, fix)
