"""Paint annotations into masks, and say what is lost: classes below others, classes and annotations without a pixel."""

import logging
from collections.abc import Sequence

import numpy as np

from mnsa.data.formats.mask_encoding import paint_polygons, paint_rle
from mnsa.data.paths import preview

_MAX_COVERED = 0.5  # share of the pixels of a class that may lie below other classes without a warning

logger = logging.getLogger(__name__)


class MaskPainter:
    """Paints annotations in the order of their file: later ones lie over earlier ones.

    names: of the pixel values 1, 2, ...
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = dict(enumerate(names, 1))
        self._covered = np.zeros((256, 256), np.int64)  # pixels by the value below and the value above
        self._empty = 0  # annotations without a pixel

    def polygons(self, mask: np.ndarray, polygons: list[np.ndarray], value: int) -> None:
        """Paint one annotation; see `paint_polygons`. Raises: InvalidPolygonError."""
        self._count(paint_polygons(mask, polygons, value), value)

    def runs(self, mask: np.ndarray, runs: Sequence[int], value: int) -> None:
        """Paint one annotation; see `paint_rle`. Raises: InvalidRleError."""
        self._count(paint_rle(mask, runs, value), value)

    def _count(self, before: np.ndarray, value: int) -> None:
        self._covered[:, value] += before
        self._empty += not before.any()

    def log_losses(self, source: str) -> None:
        """Log a warning for annotations and classes without a pixel, and for classes that others cover."""
        if self._empty:
            logger.warning("%s: %s annotations have no pixel: they are too small or too thin", source, self._empty)
        if absent := [name for value, name in self._names.items() if not self._covered[:, value].any()]:
            logger.warning("%s: classes without a pixel: %s", source, preview(absent))
        changed = self._covered - np.diag(np.diag(self._covered))
        painted, lost = changed.sum(0), changed.sum(1)
        for value, name in self._names.items():
            if lost[value] > _MAX_COVERED * painted[value]:
                above = self._names.get(int(changed[value].argmax()), "the background")
                logger.warning(
                    "%s: %.0f %% of the pixels of class %r are covered by %r. Annotations are painted in the order of "
                    "the file: list %r after it, or remove one of the classes.",
                    source, 100 * lost[value] / painted[value], name, above, name,
                )  # fmt: skip
