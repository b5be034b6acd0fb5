"""Inspect the image and the mask of one row. Runs in worker processes: no torch, and small results.

H, W image size in pixels; M mask classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.decode import (
    MASK_FORMATS,
    MIN_SIDE_PX,
    BadFileError,
    open_image,
    read_mask_values,
    to_class_indices,
    to_upright_rgb,
)
from mnsa.data.findings import Finding, OnFinding
from mnsa.data.image_formats import has_further_pages
from mnsa.data.manifest import resolve_inside
from mnsa.data.validation.near_duplicates import perceptual_hash
from mnsa.io import sha256_file

_EXIF_ORIENTATION = 0x0112  # EXIF: 1 upright, 2 to 4 keep the size, 5 to 8 swap width and height

_FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
}

_THIN_SIDE_PX = 512

_FIX_SAVE_RGB = "Save it as 8-bit RGB with the colors you want"


class ImageInfo(NamedTuple):
    """A readable image.

    size: (W, H) with the EXIF orientation applied. stored_size: (W, H) in the file. orientation: EXIF orientation,
    1 to 8. digest: SHA-256 of the file. perceptual_hash: int8 (F,) as bytes.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int
    digest: str
    perceptual_hash: bytes


class MaskInfo(NamedTuple):
    """A readable mask.

    pixels: number of pixels of each class, background first. has_thin_background: whether the background is lines, as
    where black veins lie on white. The others as in ImageInfo.
    """

    size: tuple[int, int]
    orientation: int
    digest: str
    pixels: tuple[int, ...]
    has_thin_background: bool = False


class Inspection(NamedTuple):
    """The files of one row. image, mask: None if there is no such file or it can't be used."""

    image: ImageInfo | None
    mask: MaskInfo | None
    findings: list[Finding]


def inspect_files(root: Path, mask_classes: int, names: tuple[str, str]) -> Inspection:
    """Decode and inspect an image and its mask.

    mask_classes: number of classes, 0: masks are not read. names: paths of image and mask as in the manifest; no mask:
    an empty name.
    """
    image_name, mask_name = names
    findings: list[Finding] = []
    image = _inspect_image(root, image_name, findings.append)
    mask = _inspect_mask(root, mask_name, mask_classes, findings.append) if mask_name and mask_classes else None
    if image and mask:
        findings.extend(_alignment_findings(image_name, mask_name, image, mask))
    return Inspection(image, mask, findings)


def _inspect_image(root: Path, name: str, on_finding: OnFinding) -> ImageInfo | None:
    try:
        path = resolve_inside(root, name)
        with open_image(path) as image:
            for finding in [*_file_findings(image, name), *_lossy_findings(image, name)]:
                on_finding(finding)
            stored_size, orientation = image.size, image.getexif().get(_EXIF_ORIENTATION, 1)
            upright = to_upright_rgb(image, path)
            if min(upright.size) < MIN_SIDE_PX:
                reason = (
                    f"has {upright.width} x {upright.height} pixels; predictions need at least {MIN_SIDE_PX} a side"
                )
                on_finding(Finding("image-small", name, reason, "Give the photo at its own size"))
            hash_bytes = perceptual_hash(upright).tobytes()
            return ImageInfo(upright.size, stored_size, orientation, sha256_file(path), hash_bytes)
    except BadFileError as error:
        on_finding(Finding(error.kind, name, error.reason, error.fix))
        return None


def _inspect_mask(root: Path, name: str, mask_classes: int, on_finding: OnFinding) -> MaskInfo | None:
    try:
        path = resolve_inside(root, name)
        with open_image(path, MASK_FORMATS) as image:
            for finding in _file_findings(image, name):
                on_finding(finding)
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            values, digest = read_mask_values(image, path), sha256_file(path)
        indices = to_class_indices(values, mask_classes, path)
    except BadFileError as error:
        on_finding(Finding(error.kind, name, error.reason, error.fix))
        return None
    pixels = np.bincount(indices.ravel(), minlength=max(mask_classes, 2))
    if pixels.max() == indices.size:
        on_finding(_single_class_finding(name, int(pixels.argmax())))
    height, width = indices.shape
    return MaskInfo((width, height), orientation, digest, tuple(pixels.tolist()), _is_thin(indices == 0))


def _is_thin(pixels: np.ndarray) -> bool:
    """Whether erosion by 3 px, at a size of about _THIN_SIDE_PX, leaves next to nothing: bool (H, W).

    The border of the image erodes nothing, so a narrow rest beside a large leaf isn't thin for it.
    """
    step = max(1, max(pixels.shape) // _THIN_SIDE_PX)
    eroded = small = pixels[::step, ::step]
    for _ in range(3):
        inner = np.pad(eroded, 1, constant_values=True)
        eroded = eroded & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return bool(eroded.sum() <= 0.05 * small.sum())


def _single_class_finding(name: str, index: int) -> Finding:
    if index == 0:
        return Finding("mask-empty", name, "has only background pixels", "Check that the image shows no such object")
    return Finding("mask-full", name, f"has only pixels of class {index}", "Check that it is the right mask")


def _file_findings(image: Image.Image, name: str) -> Iterator[Finding]:
    suffix = Path(name).suffix.lower()
    image_format = "JPEG" if image.format == "MPO" else image.format  # MPO: a JPEG with a preview image
    if _FORMAT_OF_SUFFIX.get(suffix) != image_format:
        reason = f"is a {image_format} file with another file name extension"
        yield Finding("wrong-extension", name, reason, "Rename it, so that every program reads the same format")
    if has_further_pages(image):
        reason = "has several frames or pages; only the first is read"
        yield Finding("animated", name, reason, "Save the right one as a file of its own")


def _lossy_findings(image: Image.Image, name: str) -> Iterator[Finding]:
    """Report what conversion to 8-bit RGB loses. Palettes, gray images and opaque alpha lose nothing."""
    if any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        yield Finding("lossy-mode", name, "has 16 bits per channel; only 8 are kept", _FIX_SAVE_RGB)
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        reason = f"has {image.mode} colors; they are converted to RGB without a color profile"
        yield Finding("lossy-mode", name, reason, _FIX_SAVE_RGB)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        reason = "has transparent pixels; their hidden colors are used"
        yield Finding("lossy-mode", name, reason, _FIX_SAVE_RGB)


def _alignment_findings(image_name: str, mask_name: str, image: ImageInfo, mask: MaskInfo) -> Iterator[Finding]:
    """Report a mask that does not match its image, by their sizes and EXIF orientations."""
    mask_size = f"{mask.size[0]} x {mask.size[1]} pixels"
    if mask.size != image.size and mask.size == image.stored_size:
        reason = (
            f"has {mask_size}, like its image {image_name} as stored, "
            f"but EXIF orientation {image.orientation} rotates the image"
        )
        fix = "Save the image upright without EXIF orientation, and rotate the mask in the same way"
        yield Finding("mask-rotation", mask_name, reason, fix)
    elif mask.size != image.size:
        reason = f"has {mask_size}, but its image {image_name} has {image.size[0]} x {image.size[1]}"
        yield Finding("mask-size", mask_name, reason, "Create the mask again at the size of the image")
    elif image.orientation in range(2, 9) and mask.orientation == 1 and image.stored_size == image.size:
        reason = (
            f"has the size of its image {image_name} both as stored and with EXIF orientation {image.orientation} "
            "applied, so the file does not show which one it belongs to"
        )
        fix = "Look at both in a contact sheet; save the image upright without EXIF orientation"
        yield Finding("mask-rotation-unclear", mask_name, reason, fix)
