"""Prediction for one uploaded image, its result as API records, and the model info. Runs in the network's thread.

H, W image size in pixels; h, w size of the attention map.
"""

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fastapi import HTTPException
from PIL import Image
from pydantic import BaseModel, Field

import mnsa
from mnsa.data.decode import FORMATS, BadFileError, open_image_bytes, to_upright_rgb
from mnsa.errors import MnsaError
from mnsa.inference.predictor import Predictor
from mnsa.serving.schemas import AttentionResult, ClassProbability, ImageResult, MaskArea, MaskResult, OutputKind
from mnsa.serving.upload import RequestLimits, Upload
from mnsa.structures import Prediction
from mnsa.traits import TraitMeasurer
from mnsa.visualize.overlay import write_overlay
from mnsa.visualize.palette import hex_color, mask_palette

MAX_PREVIEW_PX = 1280

_JPEG_QUALITY = 88


def encode_mask(mask: np.ndarray) -> bytes:
    """Class indices, uint8 (H, W), as an indexed PNG in the overlay's colors; class 0 is transparent.

    Whoever reads the indices gets the mask; whoever shows the picture over the image gets the overlay.
    """
    image = Image.fromarray(mask)
    image.putpalette(mask_palette())
    return _encode_image(image, "PNG", transparency=0)


def encode_attention(attention: np.ndarray) -> bytes:
    """Attention, float (h, w) in 0..1, as 8-bit gray: 255 is 1."""
    return _encode_image(Image.fromarray((attention * 255).round().astype(np.uint8)), "PNG")


def encode_preview(pixels: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3), as a JPEG of at most PREVIEW_PX a side: browsers can't show a TIFF."""
    image = Image.fromarray(pixels)
    image.thumbnail((MAX_PREVIEW_PX, MAX_PREVIEW_PX))
    return _encode_image(image, "JPEG", quality=_JPEG_QUALITY)


def encode_overlay(pixels: np.ndarray, mask: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3), tinted where its mask (H, W) has classes, as a JPEG of its own size."""
    data = io.BytesIO()
    write_overlay(pixels, mask, data)
    return data.getvalue()


def _encode_image(image: Image.Image, form: str, **options: int) -> bytes:
    data = io.BytesIO()
    image.save(data, format=form, **options)
    return data.getvalue()


_REJECTIONS = {  # by kind of fault: the code, and what to say
    "zero-byte": (415, "is empty (0 bytes)"),
    "truncated": (415, "is cut short; send the whole file"),
    "pixel-type": (415, "has 32-bit pixels; save it with 8 or 16 bits per channel"),
    "decompression-bomb": (413, "has too many pixels; at most {max_pixels:,} are read"),
}

_UNREADABLE_REJECTION = (415, f"can't be read as an image; {', '.join(FORMATS)} can")


class ImagePrediction(NamedTuple):
    """An image, uint8 (H, W, 3), and what the network says of it; seconds: what reading and computing took."""

    name: str
    pixels: np.ndarray
    prediction: Prediction
    seconds: float


class OutputNames(NamedTuple):
    """What the network's outputs mean."""

    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]

    def mask_values(self) -> list[tuple[int, str]]:
        """Each mask class with its pixel value: a single one is 1, several count from 0."""
        return list(enumerate(self.mask_classes, start=1 if len(self.mask_classes) == 1 else 0))


def predict_upload(predictor: Predictor, upload: Upload, max_pixels: int) -> ImagePrediction:
    """Decode an image and answer for it. Raises: HTTPException 413, 415 or 422, naming it as its client did."""
    start = time.perf_counter()
    pixels = _decode_upload(upload, max_pixels)
    try:
        prediction = predictor.predict_image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
    except MnsaError as error:
        raise HTTPException(422, f"{upload.name} can't be answered for: {error}") from None
    return ImagePrediction(upload.name, pixels, prediction, time.perf_counter() - start)


def make_result(
    predicted: ImagePrediction,
    names: OutputNames,
    *,
    include: Sequence[OutputKind],
    top_k: int,
    measurer: TraitMeasurer | None,
) -> ImageResult:
    """Put a prediction into the words of the interface. measurer: None where there is nothing to measure."""
    start = time.perf_counter()
    prediction, (height, width) = predicted.prediction, predicted.pixels.shape[:2]
    result = ImageResult(image=predicted.name, width=width, height=height, seconds=0.0)
    if OutputKind.classes in include and prediction.class_probs is not None:
        result.classes = top_classes(prediction.class_probs, names.classes, top_k)
    if OutputKind.mask in include and prediction.mask is not None:
        areas = mask_areas(prediction.mask, names.mask_classes)
        result.mask = MaskResult(png=_to_base64(encode_mask(prediction.mask)), areas=areas)
    if OutputKind.attention in include and prediction.attention is not None:
        rows, columns = prediction.attention.shape
        png = _to_base64(encode_attention(prediction.attention))
        result.attention = AttentionResult(png=png, width=columns, height=rows)
    if OutputKind.traits in include and prediction.mask is not None and measurer is not None:
        result.traits = {name: _parse_trait(text) for name, text in measurer.measure_row(prediction.mask).items()}
    if OutputKind.preview in include:
        result.preview = _to_base64(encode_preview(predicted.pixels))
    result.seconds = round(predicted.seconds + time.perf_counter() - start, 4)
    return result


def top_classes(class_probs: np.ndarray, classes: Sequence[str], top_k: int) -> list[ClassProbability]:
    """The likeliest classes, first the best. class_probs: (K,)."""
    best = class_probs.argsort()[::-1][:top_k]
    return [ClassProbability(name=classes[k], probability=float(class_probs[k])) for k in best]


def mask_areas(mask: np.ndarray, mask_classes: tuple[str, ...]) -> list[MaskArea]:
    """The share of each mask class in a mask of class indices, (H, W)."""
    values = OutputNames((), mask_classes).mask_values()
    return [
        MaskArea(name=name, value=value, fraction=round(float((mask == value).mean()), 6)) for value, name in values
    ]


def _decode_upload(upload: Upload, max_pixels: int) -> np.ndarray:
    """Read an image, upright: uint8 (H, W, 3). What the decoder says of a hostile file stays here."""
    try:
        with open_image_bytes(upload.data, upload.name, max_pixels=max_pixels) as image:
            return np.array(to_upright_rgb(image, Path(upload.name)))
    except BadFileError as error:
        status, reason = _REJECTIONS.get(error.kind, _UNREADABLE_REJECTION)
        raise HTTPException(status, f"{upload.name} {reason.format(max_pixels=max_pixels)}.") from None


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _parse_trait(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


class MaskClassInfo(BaseModel):
    """A mask class: its name, its pixel value, and its color in masks and overlays (null: see-through)."""

    name: str
    value: int
    color: str | None


class LimitsInfo(BaseModel):
    """As `mnsa serve` was started: bytes of a request, pixels of an image, images in a request; queue size."""

    max_bytes: int
    max_pixels: int
    max_images: int
    queue_size: int
    upload_timeout_s: float
    timeout_s: float


class ModelInfo(BaseModel):
    """The network behind this server. Empty lists: not its task."""

    name: str = Field(description="The run folder's own name.")
    version: str = Field(description="The version of mnsa.")
    classes: list[str]
    mask_classes: list[MaskClassInfo]
    traits: list[str] = Field(description="What is measured, in pixels; with px_per_mm, the same in millimetres.")
    limits: LimitsInfo


def make_model_info(name: str, names: OutputNames, measurer: TraitMeasurer | None, limits: RequestLimits) -> ModelInfo:
    """Say it. measurer: None where there is nothing to measure."""
    masks = [
        MaskClassInfo(name=name, value=value, color=hex_color(value) if value else None)
        for value, name in names.mask_values()
    ]
    columns: Sequence[str] = measurer.columns if measurer else ()
    return ModelInfo(
        name=name,
        version=mnsa.__version__,
        classes=list(names.classes),
        mask_classes=masks,
        traits=list(columns),
        limits=LimitsInfo(**asdict(limits)),
    )
