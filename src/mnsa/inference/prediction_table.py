"""The table of predictions: one row per image, as `mnsa predict`, the server and `Prediction.to_row` write it.

K classes; M mask classes; H, W image size in pixels.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TextIO

import numpy as np

from mnsa.structures import UNKNOWN

_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that starts with one of them

_PROBABILITIES = ("probability", "confidence")


class PredictedArrays(Protocol):
    """What a row has of a prediction: class probabilities float (K,), mask uint8 (H, W), and the check of veins."""

    @property
    def class_probs(self) -> np.ndarray | None: ...

    @property
    def mask(self) -> np.ndarray | None: ...

    @property
    def scale(self) -> float | None: ...

    @property
    def confidence(self) -> float | None: ...

    @property
    def warning(self) -> str: ...


class PredictionTable:
    """The columns and rows of predictions.csv for one network.

    top_k: number of classes in the column `top5` (or `top3`, ...), the most probable first. threshold: the calibrated
    confidence; below it, `predicted` is UNKNOWN. trait_columns: names of the measured traits.
    checks_veins: there are columns for scale, confidence and warning, see `mnsa.structures.Prediction`.
    escape_formulas: put an apostrophe before names and errors that a spreadsheet would run as a formula.
    mask_files: there is a column `mask` for the path of the mask.
    """

    def __init__(
        self,
        classes: Sequence[str],
        mask_classes: Sequence[str],
        *,
        top_k: int = 5,
        threshold: float | None = None,
        trait_columns: Sequence[str] = (),
        checks_veins: bool = False,
        escape_formulas: bool = False,
        mask_files: bool = False,
    ) -> None:
        self.classes, self.mask_classes = tuple(classes), tuple(mask_classes)
        self.top_k, self.threshold, self.escape_formulas = top_k, threshold, escape_formulas
        class_columns = ["predicted", "probability", f"top{top_k}"] if classes else []
        areas = [f"area_fraction_{name}" for name in mask_classes]
        checks = ["scale", "confidence", "warning"] if checks_veins else []
        files = ["mask"] if mask_files else []
        self.columns: list[str] = ["image", *files, *class_columns, *areas, *trait_columns, *checks, "error"]

    def values(self, prediction: PredictedArrays, name: str) -> dict[str, str | float]:
        """The row of one prediction, with numbers as floats; it has no traits and no error.

        predicted: the most probable class, or UNKNOWN. probability: of the most probable class. area_fraction_NAME:
        fraction of the image's pixels that have the mask class NAME.
        """
        values: dict[str, str | float] = {"image": self._escape(name)}
        if prediction.class_probs is not None:
            top = top_classes(prediction.class_probs, self.classes, self.top_k)
            values["predicted"] = predicted_class(prediction.class_probs, self.classes, self.threshold)
            values["probability"] = float(prediction.class_probs.max())
            values[f"top{self.top_k}"] = "; ".join(f"{label} {probability:.4f}" for label, probability in top)
        if prediction.mask is not None:
            fractions = area_fractions(prediction.mask, self.mask_classes)
            values |= {f"area_fraction_{label}": fraction for label, fraction in fractions.items()}
        if prediction.scale is not None and prediction.confidence is not None:
            values |= {"scale": prediction.scale, "confidence": prediction.confidence, "warning": prediction.warning}
        return values

    def row(self, prediction: PredictedArrays, name: str, traits: Mapping[str, str] | None = None) -> dict[str, str]:
        """The row of one prediction as text by column: probability and confidence with 4 decimals, others with 6.

        name: the image's path or name. traits: measured values by column, see `TraitMeasurer.measure_row`.
        """
        row = {
            column: value if isinstance(value, str) else f"{value:.{4 if column in _PROBABILITIES else 6}f}"
            for column, value in self.values(prediction, name).items()
        }
        return {**row, **(traits or {})}

    def error_row(self, name: str, error: str) -> dict[str, str]:
        """The row of an image that can't be predicted."""
        return {"image": self._escape(name), "error": self._escape(error)}

    def write_csv(self, file: TextIO, rows: Iterable[Mapping[str, str]]) -> None:
        """Write header and rows as CSV, lines ending with a line feed; a missing value becomes an empty cell."""
        writer = csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

    def _escape(self, text: str) -> str:
        return f"'{text}" if self.escape_formulas and text.startswith(_FORMULA_PREFIXES) else text


def predicted_class(class_probs: np.ndarray, classes: Sequence[str], threshold: float | None) -> str:
    """The most probable class of probabilities (K,); UNKNOWN when its probability is below the threshold."""
    best = int(class_probs.argmax())
    return UNKNOWN if threshold is not None and class_probs[best] < threshold else classes[best]


def top_classes(class_probs: np.ndarray, classes: Sequence[str], top_k: int) -> list[tuple[str, float]]:
    """The `top_k` most probable classes of probabilities (K,) with their probabilities, highest first."""
    best = class_probs.argsort()[::-1][:top_k]
    return [(classes[index], float(class_probs[index])) for index in best]


def mask_values(mask_classes: Sequence[str]) -> list[tuple[int, str]]:
    """The pixel value of each mask class: a single class has value 1, several are counted from 0."""
    return list(enumerate(mask_classes, start=1 if len(mask_classes) == 1 else 0))


def area_fractions(mask: np.ndarray, mask_classes: Sequence[str]) -> dict[str, float]:
    """The fraction of the pixels of a mask (H, W) that have each mask class, by name."""
    return {name: float((mask == value).mean()) for value, name in mask_values(mask_classes)}


def caption(row: Mapping[str, str]) -> str:
    """The predicted class of a row and its probability, or nothing without classes."""
    return f"{row['predicted']} {float(row['probability']):.0%}" if row.get("predicted") else ""
