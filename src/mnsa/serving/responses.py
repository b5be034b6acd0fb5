"""The response formats: JSON, CSV, or a ZIP file with the CSV and images. All are built in memory."""

import csv
import io
import zipfile
from typing import Protocol

from mnsa.serving.schemas import PredictQuery, PredictResponse
from mnsa.serving.service import (
    ImagePrediction,
    OutputNames,
    encode_mask,
    encode_overlay,
    make_result,
    mask_areas,
    top_classes,
)
from mnsa.traits import TraitMeasurer

_TOP_K = 5  # as many as `mnsa predict` writes

_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets run what begins so

_UNSAFE_CHARACTERS = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))


class ResponseBuilder(Protocol):
    """Takes predictions one by one, then is the body of a response."""

    @property
    def media_type(self) -> str:
        """What its body is."""

    @property
    def file_name(self) -> str | None:
        """What a browser should call it, when it is a file."""

    def add(self, predicted: ImagePrediction) -> None:
        """Take in one image's prediction."""

    def body(self) -> bytes:
        """Everything that was taken in."""


def make_builder(query: PredictQuery, names: OutputNames, measurer: TraitMeasurer | None) -> ResponseBuilder:
    """The reply of the chosen form. measurer: None where there is nothing to measure."""
    if query.response_format == "json":
        return JsonBuilder(query, names, measurer)
    table = CsvBuilder(names, measurer)
    return table if query.response_format == "csv" else ZipBuilder(table)


class JsonBuilder:
    """The chosen parts of each answer."""

    media_type = "application/json"
    file_name = None

    def __init__(self, query: PredictQuery, names: OutputNames, measurer: TraitMeasurer | None) -> None:
        self.query, self.names, self.measurer = query, names, measurer
        self.response = PredictResponse(results=[])

    def add(self, predicted: ImagePrediction) -> None:
        query = self.query
        result = make_result(predicted, self.names, include=query.include, top_k=query.top_k, measurer=self.measurer)
        self.response.results.append(result)

    def body(self) -> bytes:
        return self.response.model_dump_json().encode()


class CsvBuilder:
    """A row per image, with the columns that `mnsa predict` writes."""

    media_type = "text/csv; charset=utf-8"
    file_name = "predictions.csv"

    def __init__(self, names: OutputNames, measurer: TraitMeasurer | None) -> None:
        self.names, self.measurer = names, measurer
        classes = ["class", "probability", "top5"] if names.classes else []
        areas = [f"area_fraction_{name}" for name in names.mask_classes]
        self.text = io.StringIO()
        columns = ["image", *classes, *areas, *(measurer.columns if measurer else [])]
        self.table = csv.DictWriter(self.text, columns, restval="", lineterminator="\n")
        self.table.writeheader()

    def add(self, predicted: ImagePrediction) -> None:
        row = {"image": f"'{predicted.name}" if predicted.name.startswith(_FORMULA_PREFIXES) else predicted.name}
        prediction = predicted.prediction
        if prediction.class_probs is not None:
            best = top_classes(prediction.class_probs, self.names.classes, _TOP_K)
            row["class"], row["probability"] = best[0].name, f"{best[0].probability:.4f}"
            row["top5"] = "; ".join(f"{one.name} {one.probability:.4f}" for one in best)
        if prediction.mask is not None:
            areas = mask_areas(prediction.mask, self.names.mask_classes)
            row |= {f"area_fraction_{one.name}": f"{one.fraction:.6f}" for one in areas}
            row |= self.measurer.measure_row(prediction.mask) if self.measurer else {}
        self.table.writerow(row)

    def body(self) -> bytes:
        return self.text.getvalue().encode()


class ZipBuilder:
    """predictions.csv, masks/NAME.png and overlays/NAME.jpg."""

    media_type = "application/zip"
    file_name = "predictions.zip"

    def __init__(self, table: CsvBuilder) -> None:
        self.table = table
        self.data = io.BytesIO()
        self.archive = zipfile.ZipFile(self.data, "w")  # pictures are compressed already
        self.taken: set[str] = set()

    def add(self, predicted: ImagePrediction) -> None:
        self.table.add(predicted)
        mask = predicted.prediction.mask
        if mask is not None:
            name = self._new_name(predicted.name)
            self.archive.writestr(f"masks/{name}.png", encode_mask(mask))
            self.archive.writestr(f"overlays/{name}.jpg", encode_overlay(predicted.pixels, mask))

    def body(self) -> bytes:
        self.archive.writestr("predictions.csv", self.table.body(), zipfile.ZIP_DEFLATED)
        self.archive.close()
        return self.data.getvalue()

    def _new_name(self, image: str) -> str:
        """The image's name without its suffix, fit for every file system, with a number where two images share it."""
        stem = image.rpartition(".")[0] or image
        stem = stem.translate(_UNSAFE_CHARACTERS).strip(" .") or "image"
        name, number = stem, 1
        while name.lower() in self.taken:
            number += 1
            name = f"{stem}-{number}"
        self.taken.add(name.lower())
        return name
