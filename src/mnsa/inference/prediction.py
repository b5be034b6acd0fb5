"""A prediction that knows the names of its classes: as a table row, as a dict, and as HTML in a notebook.

H, W image size in pixels.
"""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.data.decode import read_pixels
from mnsa.errors import MnsaError
from mnsa.inference.prediction_table import PredictionTable, area_fractions, predicted_class, top_classes
from mnsa.structures import Prediction
from mnsa.visualize.drawing import draw_overlay

_THUMBNAIL_PX = 320

_OVERLAY_PX = 2048  # a longer image is thinned out before its overlay is drawn

_TOP_K = 5


@dataclass(frozen=True, slots=True)
class NamedPrediction(Prediction):
    """A prediction of `Predictor`, with the names of its classes.

    classes, mask_classes: names, in the order of class_probs and of the mask's values. threshold: the calibrated
    confidence, or None. image: uint8 (H, W, 3), RGB, where no file was read; else the file at `path` is drawn.
    """

    classes: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    threshold: float | None = None
    image: np.ndarray | None = None

    @property
    def predicted(self) -> str | None:
        """The most probable class; `unknown` below the threshold; None without classes."""
        if self.class_probs is None:
            return None
        return predicted_class(self.class_probs, self.classes, self.threshold)

    def to_row(self) -> dict[str, str | float]:
        """A flat dict for `pandas.DataFrame`, with the columns of predictions.csv and numbers as floats."""
        table = PredictionTable(
            self.classes, self.mask_classes, top_k=_TOP_K, threshold=self.threshold, checks_veins=self.scale is not None
        )
        return table.values(self, self.path)

    def to_dict(self) -> dict[str, object]:
        """A dict that `json.dumps` takes: image, predicted, probabilities and area_fractions by class name.

        Fields of a task that the network does not have are None. Masks and maps are left out. With a `scale`, there are
        also scale, confidence and warning.
        """
        probabilities = None
        if self.class_probs is not None:
            probabilities = dict(zip(self.classes, map(float, self.class_probs), strict=True))
        fields: dict[str, object] = {
            "image": self.path,
            "predicted": self.predicted,
            "probabilities": probabilities,
            "area_fractions": None if self.mask is None else area_fractions(self.mask, self.mask_classes),
        }
        if self.scale is None:
            return fields
        return {**fields, "scale": self.scale, "confidence": self.confidence, "warning": self.warning}

    def draw(self, max_px: int = _THUMBNAIL_PX) -> Image.Image | None:
        """Draw the overlay, or the image where there is no mask, with at most `max_px` a side.

        Returns: None when the image is no longer there.
        """
        try:
            pixels = read_pixels(Path(self.path)) if self.image is None else self.image
        except MnsaError:
            return None
        step = -(-max(pixels.shape[:2]) // _OVERLAY_PX)
        shown = np.ascontiguousarray(pixels[::step, ::step])
        if self.mask is not None and self.mask.shape == pixels.shape[:2]:
            shown = draw_overlay(shown, self.mask[::step, ::step])
        drawing = Image.fromarray(shown)
        drawing.thumbnail((max_px, max_px))
        return drawing

    def _repr_html_(self) -> str:
        """HTML for a notebook: the drawing, the most probable classes and the area fractions."""
        rows: list[tuple[str, str]] = []
        if self.class_probs is not None:
            rows += [("predicted", self.predicted or "")]
            rows += [(name, f"{value:.1%}") for name, value in top_classes(self.class_probs, self.classes, _TOP_K)]
        if self.mask is not None:
            fractions = area_fractions(self.mask, self.mask_classes)
            rows += [(f"area of {name}", f"{value:.1%}") for name, value in fractions.items()]
        rows += [("warning", self.warning)] if self.warning else []
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
        return (
            f'<figure style="display:flex;gap:1em;align-items:start;margin:0">{self._image_tag()}'
            f"<table><caption>{escape(self.path)}</caption>{cells}</table></figure>"
        )

    def _image_tag(self) -> str:
        drawing, data = self.draw(), io.BytesIO()
        if drawing is None:
            return ""
        drawing.save(data, format="JPEG", quality=88)
        encoded = base64.b64encode(data.getvalue()).decode("ascii")
        return f'<img alt="{escape(self.path)}" src="data:image/jpeg;base64,{encoded}">'
