"""From the bytes of one image to its answer; runs in the network's thread.

H, W image size in pixels.
"""

import base64
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fastapi import HTTPException

from mnsa.data.decoding import FORMATS, BadFileError, opened_bytes, upright_rgb
from mnsa.errors import MnsaError
from mnsa.inference.predictor import Predictor
from mnsa.records import Prediction
from mnsa.serving import pictures
from mnsa.serving.answers import Answer, AttentionAnswer, ClassAnswer, MaskAnswer, MaskShare, Part
from mnsa.serving.upload import Upload
from mnsa.traits import Ruler

_REASONS = {  # by kind of fault: the code, and what to say
    "zero-byte": (415, "is empty (0 bytes)"),
    "truncated": (415, "is cut short; send the whole file"),
    "pixel-type": (415, "has 32-bit pixels; save it with 8 or 16 bits per channel"),
    "decompression-bomb": (413, "has too many pixels; at most {max_pixels:,} are read"),
}
_UNREADABLE = (415, f"can't be read as an image; {', '.join(FORMATS)} can")


class Predicted(NamedTuple):
    """An image, uint8 (H, W, 3), and what the network says of it; seconds: what reading and computing took."""

    name: str
    pixels: np.ndarray
    prediction: Prediction
    seconds: float


class Names(NamedTuple):
    """What the network's outputs mean."""

    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]

    def mask_values(self) -> list[tuple[int, str]]:
        """Each mask class with its pixel value: a single one is 1, several count from 0."""
        return list(enumerate(self.mask_classes, start=1 if len(self.mask_classes) == 1 else 0))


def predict(predictor: Predictor, upload: Upload, max_pixels: int) -> Predicted:
    """Decode an image and answer for it. Raises: HTTPException 413, 415 or 422, naming it as its client did."""
    start = time.perf_counter()
    pixels = _decode(upload, max_pixels)
    try:
        prediction = predictor.predict_image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
    except MnsaError as error:
        raise HTTPException(422, f"{upload.name} can't be answered for: {error}") from None
    return Predicted(upload.name, pixels, prediction, time.perf_counter() - start)


def answer_of(predicted: Predicted, names: Names, *, parts: Sequence[Part], top_k: int, ruler: Ruler | None) -> Answer:
    """Put a prediction into the words of the interface. ruler: None where there is nothing to measure."""
    start = time.perf_counter()
    said, (height, width) = predicted.prediction, predicted.pixels.shape[:2]
    answer = Answer(image=predicted.name, width=width, height=height, seconds=0.0)
    if Part.classes in parts and said.class_probs is not None:
        answer.classes = likeliest(said.class_probs, names.classes, top_k)
    if Part.mask in parts and said.mask is not None:
        shares = mask_shares(said.mask, names.mask_classes)
        answer.mask = MaskAnswer(png=_text(pictures.mask_png(said.mask)), shares=shares)
    if Part.attention in parts and said.attention is not None:
        rows, columns = said.attention.shape
        png = _text(pictures.attention_png(said.attention))
        answer.attention = AttentionAnswer(png=png, width=columns, height=rows)
    if Part.traits in parts and said.mask is not None and ruler is not None:
        answer.traits = {name: _number(text) for name, text in ruler.row(said.mask).items()}
    if Part.preview in parts:
        answer.preview = _text(pictures.preview_jpeg(predicted.pixels))
    answer.seconds = round(predicted.seconds + time.perf_counter() - start, 4)
    return answer


def likeliest(class_probs: np.ndarray, classes: Sequence[str], top_k: int) -> list[ClassAnswer]:
    """The likeliest classes, first the best. class_probs: (K,)."""
    best = class_probs.argsort()[::-1][:top_k]
    return [ClassAnswer(name=classes[k], probability=float(class_probs[k])) for k in best]


def mask_shares(mask: np.ndarray, mask_classes: tuple[str, ...]) -> list[MaskShare]:
    """The share of each mask class in a mask of class indices, (H, W)."""
    values = Names((), mask_classes).mask_values()
    return [MaskShare(name=name, value=value, share=round(float((mask == value).mean()), 6)) for value, name in values]


def _decode(upload: Upload, max_pixels: int) -> np.ndarray:
    """Read an image, upright: uint8 (H, W, 3). What the decoder says of a hostile file stays here."""
    try:
        with opened_bytes(upload.data, upload.name, max_pixels=max_pixels) as image:
            return np.array(upright_rgb(image, Path(upload.name)))
    except BadFileError as error:
        status, reason = _REASONS.get(error.kind, _UNREADABLE)
        raise HTTPException(status, f"{upload.name} {reason.format(max_pixels=max_pixels)}.") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _number(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text
