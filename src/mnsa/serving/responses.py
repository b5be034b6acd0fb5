"""Response bodies, built in memory: images as PNG and JPEG, results as JSON, and the CSV and ZIP files.

H, W image size in pixels; h, w size of the attention map.
"""

import base64
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mnsa.data.paths import unique_names
from mnsa.inference.prediction_table import PredictionTable
from mnsa.visualize.drawing import write_overlay
from mnsa.visualize.palette import mask_palette

MAX_PREVIEW_PX = 1280
CSV_FILE, ZIP_FILE = "predictions.csv", "predictions.zip"

_JPEG_QUALITY = 88
_UNSAFE_CHARACTERS = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))


class FileEntry(NamedTuple):
    """One image in a CSV or ZIP file: its table row, and for a ZIP file its mask (PNG) and overlay (JPEG)."""

    name: str
    row: dict[str, str]
    mask_png: bytes | None = None
    overlay_jpeg: bytes | None = None


def csv_file(table: PredictionTable, entries: Sequence[FileEntry]) -> bytes:
    """Write the table of predictions, as `mnsa predict` does."""
    text = io.StringIO()
    table.write_csv(text, [entry.row for entry in entries])
    return text.getvalue().encode()


def zip_file(table: PredictionTable, entries: Sequence[FileEntry]) -> bytes:
    """Write predictions.csv, masks/NAME.png and overlays/NAME.jpg. A column `mask` of the table names the mask."""
    data = io.BytesIO()
    names = unique_names([Path(f"{_safe_stem(entry.name)}.png") for entry in entries])
    entries = [
        entry if entry.mask_png is None else entry._replace(row=entry.row | {"mask": f"masks/{name}.png"})
        for name, entry in zip(names, entries, strict=True)
    ]
    with zipfile.ZipFile(data, "w") as archive:  # PNG and JPEG are compressed already
        archive.writestr(CSV_FILE, csv_file(table, entries), zipfile.ZIP_DEFLATED)
        for name, entry in zip(names, entries, strict=True):
            if entry.mask_png is not None:
                archive.writestr(f"masks/{name}.png", entry.mask_png)
            if entry.overlay_jpeg is not None:
                archive.writestr(f"overlays/{name}.jpg", entry.overlay_jpeg)
    return data.getvalue()


def encode_mask(mask: np.ndarray) -> bytes:
    """Encode class indices, uint8 (H, W), as an indexed PNG with the overlay's colors.

    The pixel values are the class indices. Class 0 is transparent, so that the PNG can be shown over the image.
    """
    image = Image.fromarray(mask)
    image.putpalette(mask_palette())
    return _encode_image(image, "PNG", transparency=0)


def encode_attention(attention: np.ndarray) -> bytes:
    """Encode an attention map, float (h, w) in 0..1, as an 8-bit gray PNG, where 255 means 1."""
    return _encode_image(Image.fromarray((attention * 255).round().astype(np.uint8)), "PNG")


def encode_preview(pixels: np.ndarray) -> bytes:
    """Encode an image, uint8 (H, W, 3), as a JPEG with sides of at most MAX_PREVIEW_PX. Browsers can't show TIFF."""
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_PREVIEW_PX, MAX_PREVIEW_PX))
    return _encode_image(image, "JPEG", quality=_JPEG_QUALITY)


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """Encode an image, uint8 (H, W, 3), as a JPEG of its own size."""
    return _encode_image(Image.fromarray(pixels), "JPEG", quality=_JPEG_QUALITY)


def encode_overlay(pixels: np.ndarray, mask: np.ndarray) -> bytes:
    """Encode an image, uint8 (H, W, 3), with its mask (H, W) drawn over it, as a JPEG.

    A mask of another size is resized to the image.
    """
    height, width = pixels.shape[:2]
    if mask.shape != (height, width):
        mask = np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    data = io.BytesIO()
    write_overlay(pixels, mask, data)
    return data.getvalue()


def to_base64(data: bytes) -> str:
    """Encode bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def _encode_image(image: Image.Image, file_format: str, **options: int) -> bytes:
    data = io.BytesIO()
    image.save(data, format=file_format, **options)
    return data.getvalue()


def _safe_stem(name: str) -> str:
    """Return a file name without its suffix, and with only characters that every file system accepts."""
    stem = name.rpartition(".")[0] or name
    return stem.translate(_UNSAFE_CHARACTERS).strip(" .") or "image"
