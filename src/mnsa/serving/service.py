"""The prediction service: predicts uploaded images with one network, one after the other, in one thread.

H, W image size in pixels.
"""

import binascii
import math
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fastapi import HTTPException
from PIL import Image

import mnsa
from mnsa.data.decode import FORMATS, BadFileError, open_image_bytes, read_mask_values, to_class_indices, to_upright_rgb
from mnsa.data.image_formats import has_further_pages
from mnsa.errors import MnsaError
from mnsa.inference.prediction_table import PredictionTable, area_fractions, mask_values, predicted_class, top_classes
from mnsa.inference.predictor import Predictor
from mnsa.inference.vein_check import WARNINGS
from mnsa.serving.request_queue import RequestQueue, ServerMetrics
from mnsa.serving.responses import FileEntry, encode_attention, encode_mask, encode_overlay, encode_preview, to_base64
from mnsa.serving.schemas import (
    AttentionResult,
    ClassProbability,
    ExportItem,
    ExportQuery,
    ImageResult,
    LimitsInfo,
    MaskArea,
    MaskClassInfo,
    MaskResult,
    ModelInfo,
    OutputKind,
    PredictQuery,
)
from mnsa.serving.upload import RequestLimits, Upload
from mnsa.structures import Prediction
from mnsa.traits import Roles, TraitMeasurer
from mnsa.traits.records import SCALE_COLUMN, enlarge_columns, scale_columns
from mnsa.visualize.palette import hex_color

_REJECTIONS = {  # BadFileError.kind -> status code and message
    "zero-byte": (415, "is empty (0 bytes)"),
    "truncated": (415, "is truncated. Send the whole file"),
    "decompression-bomb": (413, "has too many pixels. The maximum is {max_pixels:,}"),
}
_UNREADABLE = (415, f"is not a readable image. Supported formats: {', '.join(FORMATS)}")


PAGE_MAX_SIDE_PX = 2048  # networks of veins choose a scale of at most about this; others see less

_FURTHER_PAGES = "The file has several pages or frames; only the first is read."


class DecodedImage(NamedTuple):
    """An uploaded image: pixels uint8 (H, W, 3), and a warning about the file or an empty text.

    size: (width, height) of the upload. factor: by which it was shrunk.
    """

    pixels: np.ndarray
    warning: str
    size: tuple[int, int]
    factor: float

    def enlarge_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of the pixels at the size of the upload."""
        return mask if self.factor == 1 else np.array(Image.fromarray(mask).resize(self.size, Image.Resampling.NEAREST))


class ImagePrediction(NamedTuple):
    """An uploaded image, its prediction, and the seconds it took."""

    name: str
    image: DecodedImage
    prediction: Prediction
    seconds: float

    @property
    def warning(self) -> str:
        """What to know about the file and its veins; empty: nothing."""
        return " ".join(filter(None, (self.prediction.warning, self.image.warning)))


class PredictionService:
    """A predictor behind a request queue.

    name: name of the run. roles: which mask classes are vein, leaf and lesion; None: no traits are measured.
    """

    def __init__(self, predictor: Predictor, *, name: str, roles: Roles | None, limits: RequestLimits) -> None:
        self.predictor, self.name, self.roles, self.limits = predictor, name, roles, limits
        self.queue = RequestQueue(limits.queue_size)
        self.metrics = ServerMetrics(self.queue)

    def table(self, px_per_mm: float | None, *, mask_files: bool = False) -> PredictionTable:
        """Return the table of predictions with traits at this scale. mask_files: there are files of masks to name."""
        measurer = self.measurer(px_per_mm)
        return PredictionTable(
            self.predictor.classes,
            self.predictor.mask_classes,
            threshold=self.predictor.threshold,
            trait_columns=measurer.table_columns if measurer else (),
            checks_veins=self.predictor.scale is not None,
            escape_formulas=True,
            mask_files=mask_files and bool(self.predictor.mask_classes),
        )

    def measurer(self, px_per_mm: float | None) -> TraitMeasurer | None:
        """Return the measurer at this scale, or None when there is nothing to measure."""
        return None if self.roles is None else TraitMeasurer(self.roles, px_per_mm=px_per_mm)

    def model_info(self) -> ModelInfo:
        """Describe the network and the limits."""
        masks = [
            MaskClassInfo(name=name, value=value, color=hex_color(value) if value else None)
            for value, name in mask_values(self.predictor.mask_classes)
        ]
        measurer = self.measurer(None)
        return ModelInfo(
            name=self.name,
            version=mnsa.__version__,
            classes=list(self.predictor.classes),
            threshold=self.predictor.threshold,
            calibrated=self.predictor.calibration is not None,
            mask_classes=masks,
            traits=measurer.columns if measurer else [],
            page_max_side_px=None if self.predictor.keeps_scale and self.predictor.scale is None else PAGE_MAX_SIDE_PX,
            limits=LimitsInfo(**asdict(self.limits)),
        )

    async def predict_results(self, uploads: list[Upload], query: PredictQuery) -> list[ImageResult]:
        """Predict images for a JSON response. Raises: HTTPException 413, 415 or 422 for the first bad image."""
        return [await self.queue.run(partial(self._result, uploads.pop(0), query)) for _ in range(len(uploads))]

    async def predict_entries(self, uploads: list[Upload], query: PredictQuery) -> list[FileEntry]:
        """Predict images for a CSV or ZIP file. Raises: HTTPException 413, 415 or 422 for the first bad image."""
        return [await self.queue.run(partial(self._entry, uploads.pop(0), query)) for _ in range(len(uploads))]

    async def export_entries(self, items: Sequence[ExportItem], query: ExportQuery) -> list[FileEntry]:
        """Turn earlier results into entries of a CSV or ZIP file, without the network.

        Raises: HTTPException 413, 415 or 422 for the first bad item.
        """
        return [await self.queue.run(partial(self._export_entry, item, query)) for item in items]

    def predict(self, upload: Upload, max_side_px: int | None = None) -> ImagePrediction:
        """Decode an image, shrink it to at most `max_side_px` a side, and predict it.

        Raises: HTTPException 413, 415 or 422 with the name of the upload.
        """
        start = time.perf_counter()
        image = _decode_rgb(upload, self.limits.max_pixels, max_side_px)
        try:
            prediction = self.predictor.predict_image(torch.from_numpy(image.pixels).permute(2, 0, 1).contiguous())
        except MnsaError as error:
            raise HTTPException(422, f"{upload.name} can't be predicted: {error}") from None
        return ImagePrediction(upload.name, image, prediction, time.perf_counter() - start)

    def measure(self, predicted: ImagePrediction, px_per_mm: float | None) -> dict[str, str] | None:
        """Measure the traits of a prediction, in pixels of the upload or in millimeters; None if there is nothing."""
        factor, mask = predicted.image.factor, predicted.prediction.mask
        measurer = self.measurer(None if px_per_mm is None else px_per_mm * factor)
        if measurer is None or mask is None:
            return None
        traits = measurer.measure_row(mask)
        return enlarge_columns(traits, 1 / factor) if factor < 1 and px_per_mm is None else traits

    def _result(self, upload: Upload, query: PredictQuery) -> ImageResult:
        with self.metrics.seconds.time():
            result = self._make_result(self.predict(upload, query.max_side_px), query)
        self.metrics.images.inc()
        return result

    def _entry(self, upload: Upload, query: PredictQuery) -> FileEntry:
        with self.metrics.seconds.time():
            predicted = self.predict(upload, query.max_side_px)
            mask, traits = predicted.prediction.mask, self.measure(predicted, query.px_per_mm)
            if traits is not None:
                traits |= _scale_column(query.px_per_mm)
            row = self.table(query.px_per_mm).row(predicted.prediction, predicted.name, traits)
            entry = FileEntry(predicted.name, row)
            if query.response_format == "zip" and mask is not None:
                overlay = encode_overlay(predicted.image.pixels, mask)
                entry = entry._replace(mask_png=encode_mask(predicted.image.enlarge_mask(mask)), overlay_jpeg=overlay)
        self.metrics.images.inc()
        return entry

    def _make_result(self, predicted: ImagePrediction, query: PredictQuery) -> ImageResult:
        start = time.perf_counter()
        include, prediction, (width, height) = query.include, predicted.prediction, predicted.image.size
        class_probs, mask, attention = prediction.class_probs, prediction.mask, prediction.attention
        result = ImageResult(
            image=predicted.name, width=width, height=height, seconds=0.0,
            confidence=prediction.confidence, warning=predicted.warning, shrink_factor=predicted.image.factor,
        )  # fmt: skip
        if OutputKind.classes in include and class_probs is not None:
            classes = self.predictor.classes
            result.predicted = predicted_class(class_probs, classes, self.predictor.threshold)
            result.classes = [
                ClassProbability(name=name, probability=probability)
                for name, probability in top_classes(class_probs, classes, query.top_k)
            ]
        if OutputKind.mask in include and mask is not None:
            png = to_base64(encode_mask(predicted.image.enlarge_mask(mask)))
            result.mask = MaskResult(png=png, areas=self._mask_areas(mask))
        if OutputKind.attention in include and attention is not None:
            rows, columns = attention.shape
            result.attention = AttentionResult(png=to_base64(encode_attention(attention)), width=columns, height=rows)
        measured: dict[float | None, dict[str, str]] = {}  # by scale; measuring a large mask takes seconds
        if OutputKind.traits in include and (traits := self.measure(predicted, query.px_per_mm)):
            measured[query.px_per_mm] = traits
            result.traits = {name: _parse_trait(text) for name, text in traits.items()}
        if OutputKind.preview in include:
            result.preview = to_base64(encode_preview(predicted.image.pixels))
        if OutputKind.row in include:
            in_px = measured.get(None) or self.measure(predicted, None)
            result.row = self.table(None).row(prediction, predicted.name, in_px)
        result.seconds = round(predicted.seconds + time.perf_counter() - start, 4)
        return result

    def _mask_areas(self, mask: np.ndarray) -> list[MaskArea]:
        names = self.predictor.mask_classes
        fractions = area_fractions(mask, names)
        return [
            MaskArea(name=name, value=value, fraction=round(fractions[name], 6)) for value, name in mask_values(names)
        ]

    def _export_entry(self, item: ExportItem, query: ExportQuery) -> FileEntry:
        name = item.row.get("image", "")
        row = _export_row(item.row, self.table(None), self.measurer(None), query.px_per_mm)
        entry = FileEntry(name, row)
        if query.response_format == "zip" and item.mask is not None and item.preview is not None:
            mask = _decode_mask(
                _decode_base64(item.mask, name), len(self.predictor.mask_classes), self.limits.max_pixels
            )
            preview = _decode_rgb(_decode_base64(item.preview, name), self.limits.max_pixels).pixels
            entry = entry._replace(mask_png=encode_mask(mask), overlay_jpeg=encode_overlay(preview, mask))
        return entry


def _export_row(
    row: dict[str, str], table: PredictionTable, measurer: TraitMeasurer | None, px_per_mm: float | None
) -> dict[str, str]:
    """Check a row from a client, escape its free texts, and convert its traits from pixels to millimeters."""
    if unknown := row.keys() - set(table.columns):
        raise HTTPException(422, f"items.row: Unknown column {min(unknown)!r}.")
    row = row | table.error_row(row.get("image", ""), row.get("error", ""))
    if row.get("warning", "") not in ("", *WARNINGS):
        raise HTTPException(422, "items.row: There is no such warning.")
    if px_per_mm is None or measurer is None:
        return row
    traits = {name: row.pop(name) for name in measurer.columns if name in row}
    try:
        return row | (_scale_column(px_per_mm) if traits else {}) | scale_columns(traits, px_per_mm)
    except ValueError:
        raise HTTPException(422, "items.row: A trait is not a number.") from None


def _scale_column(px_per_mm: float | None) -> dict[str, str]:
    return {} if px_per_mm is None else {SCALE_COLUMN: f"{px_per_mm:.6g}"}


def _decode_rgb(upload: Upload, max_pixels: int, max_side_px: int | None = None) -> DecodedImage:
    """Decode an image, upright, and shrink longer sides. Error messages don't contain the decoder's own text."""
    try:
        with open_image_bytes(upload.data, upload.name, max_pixels=max_pixels) as image:
            warning = _FURTHER_PAGES if has_further_pages(image) else ""
            upright = to_upright_rgb(image, Path(upload.name))
            size, factor = upright.size, min(1.0, (max_side_px or math.inf) / max(upright.size))
            if factor < 1:
                shrunk = tuple(max(1, round(side * factor)) for side in size)
                upright = upright.resize((shrunk[0], shrunk[1]), Image.Resampling.BOX)
            return DecodedImage(np.array(upright), warning, size, factor)
    except BadFileError as error:
        raise _rejection(error, upload.name, max_pixels) from None


def _decode_mask(upload: Upload, mask_classes: int, max_pixels: int) -> np.ndarray:
    """Decode a mask: class indices, uint8 (H, W)."""
    try:
        with open_image_bytes(upload.data, upload.name, max_pixels=max_pixels) as image:
            path = Path(upload.name)
            return to_class_indices(read_mask_values(image, path), mask_classes, path)
    except BadFileError as error:
        raise _rejection(error, upload.name, max_pixels) from None


def _rejection(error: BadFileError, name: str, max_pixels: int) -> HTTPException:
    if error.kind in ("unsupported", "pixel-type"):  # texts of mnsa's own, which may name a package to install
        return HTTPException(415, f"{name} {error.reason}. {error.fix}.")
    status, reason = _REJECTIONS.get(error.kind, _UNREADABLE)
    return HTTPException(status, f"{name} {reason.format(max_pixels=max_pixels)}.")


def _decode_base64(text: str, name: str) -> Upload:
    try:
        return Upload(name, b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise HTTPException(422, "items: A mask or preview is not base64.") from None


def _parse_trait(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text
